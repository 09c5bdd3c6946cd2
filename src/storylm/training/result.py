"""How a run ended, and what is said of it."""

from dataclasses import dataclass
from pathlib import Path

from storylm.evaluation.likelihood import Likelihood
from storylm.model.store import load
from storylm.model.transformer import Transformer
from storylm.training.judging import judge
from storylm.training.session import Session


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `model` is the folder to load: the best by validation, else the last."""

    folder: Path
    model: Path
    reason: str  # "finished", "no gain", "interrupted", "diverged"
    steps: int
    tokens: int
    seconds: float
    skipped: int
    validation: Likelihood | None
    exit_code: int = 0


def result_of(session: Session, folder: Path, reason: str) -> RunResult:
    """The result of the run in `folder`, which all ranks have to ask for together."""
    state, best = session.state, folder / "checkpoints" / "best"
    model = best if best.exists() else folder / "checkpoints" / "last"
    return RunResult(
        folder=folder,
        model=model,
        reason=reason,
        steps=state.step,
        tokens=state.tokens,
        seconds=state.seconds,
        skipped=state.skipped,
        validation=_judged(session, model) if state.ended and session.validation else None,
        exit_code={"interrupted": session.stop.exit_code, "diverged": 1}.get(reason, 0),
    )


def last_words(session: Session, result: RunResult) -> str:
    """A line for whoever waited for the run."""
    if result.reason == "interrupted":
        return f"saved at step {result.steps:,}; go on with: storylm train --resume {result.folder}"
    if result.reason == "diverged":
        kept = f"the last good checkpoint is in {result.model}" if result.model.exists() else "nothing was saved yet"
        why = "weights are no longer finite numbers"
        if session.diverged:
            why = f"{session.state.bad_in_a_row} updates in a row were not finite ({result.skipped} in all)"
        advice = "Try a lower optim.lr, a smaller optim.clip or train.precision=fp32"
        return f"stopped at step {result.steps:,}: {why}; {kept}. {advice}"
    judged = result.validation
    figure = f"; {judged.bits_per_byte:.3f} bits per byte on {judged.stories:,} validation stories" if judged else ""
    return f"{result.reason} at step {result.steps:,}{figure}; the model is in {result.model}"


def _judged(session: Session, folder: Path) -> Likelihood:
    """The figure to report: of the model in `folder`, on every validation story, or as many as asked for."""
    best, ranks = session.state.best_pass, session.ranks
    if best is not None and (best["stories"] == len(session.validation) or not session.config.train.judge_all):
        return Likelihood(**best)
    with ranks.main_first():
        model = load(folder)[0] if ranks.is_main else Transformer(session.config.model)
    ranks.share_weights(model)
    return judge(model.to(session.learner.model.device), session.tokenizer, session.validation, ranks)

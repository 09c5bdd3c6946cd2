"""Build everything a run needs, go through the loop, and say how it ended."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from storylm.config.errors import CheckpointError, UsageError
from storylm.config.files import write_text
from storylm.config.load import apply_overrides, to_yaml
from storylm.config.schema import RunConfig
from storylm.data.batches import PackedBatches, PaddedBatches
from storylm.data.prepare import Prepared, prepare_cached
from storylm.data.preparing.plan import OWN
from storylm.evaluation.likelihood import Likelihood, evaluate
from storylm.model.families import to_config_json
from storylm.model.store import load, write_model_files
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.training.checkpoint import Checkpoints
from storylm.training.clock import Clock, MinuteClock, StepClock
from storylm.training.device import pick_device, pick_precision, reuse_freed_memory, use_compile
from storylm.training.learner import Learner
from storylm.training.loop import train_loop
from storylm.training.manifest import write_manifest
from storylm.training.observers import Observer, Observers, build_observers
from storylm.training.run_folder import check_run_folder, differences, saved_config, sole_writer, with_absolute_paths
from storylm.training.session import Batches, Session
from storylm.training.signals import StopSignal

LAYOUTS = {"packed": PackedBatches, "padded": PaddedBatches}


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


def train(config: RunConfig, out: str | Path | None = None) -> RunResult:
    """Train as `config` says into the run folder `out` (default `runs/<name>`); an unfinished run there goes on.

    >>> import storylm
    >>> result = storylm.train(storylm.preset("story-1m"), "runs/first")        # doctest: +SKIP
    >>> model, tokenizer = storylm.load(result.model)                           # doctest: +SKIP
    """
    return train_run(config, None if out is None else Path(out))


def train_run(
    config: RunConfig, out: Path | None = None, fresh: bool = False, observers: Sequence[Observer] | None = None
) -> RunResult:
    """`train`, for the command line: `fresh` deletes what stands in the folder; `observers` replace the usual ones."""
    config = with_absolute_paths(config)
    folder = out or Path("runs") / config.name
    check_run_folder(folder, config, fresh)
    return _run(config, folder, fresh=fresh, observers=observers)


def resume_run(folder: Path, overrides: Sequence[str] = ()) -> RunResult:
    """Go on with the run in `folder`; `overrides` (key=value) change its settings from here on."""
    saved = saved_config(folder)
    if saved is None:
        raise CheckpointError(f"{folder} holds no run (no config.yaml in it): nothing to go on with")
    config = with_absolute_paths(apply_overrides(saved, overrides))
    if config.model != saved.model:
        raise UsageError(
            f"a run keeps its model ({differences(saved, config)}): leave the model as it is, or begin another run"
        )
    return _run(config, folder, extended=config != saved)


def _run(
    config: RunConfig,
    folder: Path,
    fresh: bool = False,
    extended: bool = False,
    observers: Sequence[Observer] | None = None,
) -> RunResult:
    # Whatever can be refused is refused before the folder is touched.
    device = pick_device(config.train.device)
    precision, compiled = pick_precision(config.train.precision, device), use_compile(config.train, device)
    to_config_json(config.model)
    if config.tokenizer != OWN:
        _check_vocabulary(config, Tokenizer.load(config.tokenizer))
    prepared = prepare_cached(config)
    tokenizer = prepared.tokenizer
    _check_vocabulary(config, tokenizer)
    if device.type == "cpu":
        torch.set_num_threads(config.train.threads or torch.get_num_threads())
        reuse_freed_memory()

    with sole_writer(folder, fresh), StopSignal() as stop:
        model = new_model(config)
        checkpoints = Checkpoints(folder / "checkpoints", lambda target: write_model_files(model, tokenizer, target))
        found = checkpoints.latest()
        if found is not None:
            model.load_state_dict(load(found.folder)[0].state_dict())
        batches = _build_batches(config, prepared)
        session = Session(
            config,
            Learner(model.to(device), config, precision, compiled),
            tokenizer,
            batches,
            prepared.validation_stories(),
            prepared.tokens("validation"),
            _build_clock(config, batches),
            checkpoints,
            stop,
        )
        if found is not None:
            session.restore(found.state)
            # The same after a process that was extended and died before its first checkpoint.
            unfinished = isinstance(session.clock, StepClock) and session.clock.progress(session.state.step) < 1.0
            if extended or (session.state.ended == "finished" and unfinished):
                session.state.ended = None
        write_manifest(folder, prepared)
        write_text(folder / "config.yaml", to_yaml(config))
        if observers is None:
            observers = build_observers(config, folder, session.state.step)
        session.observers = Observers(observers)
        try:
            reason = session.state.ended or train_loop(session)
        finally:
            session.observers.close()
        result = _result(session, folder, reason)
        session.observers.message(_last_words(session, result))
        return result


def new_model(config: RunConfig) -> Transformer:
    """The model of a run before its first step, on the CPU."""
    model = Transformer(config.model)
    model.initialise(torch.Generator().manual_seed(config.train.seed))
    return model


def _build_batches(config: RunConfig, prepared: Prepared) -> Batches:
    return LAYOUTS[config.data.layout](
        prepared.split("train"),
        context=config.row_length,
        batch_size=config.train.batch_size,
        accumulation=config.train.accumulation,
        seed=config.train.seed,
        separate_stories=config.data.separate_stories,
    )


def _build_clock(config: RunConfig, batches: Batches) -> Clock:
    train = config.train
    if train.minutes is not None:
        return MinuteClock(train.minutes)
    if train.steps is not None:
        return StepClock(train.steps)
    return StepClock(max(1, math.ceil((train.epochs or 1.0) * batches.steps_per_epoch)))


def _check_vocabulary(config: RunConfig, tokenizer: Tokenizer) -> None:
    if tokenizer.vocab_size > config.model.vocab_size:
        enough = -(-tokenizer.vocab_size // 64) * 64
        raise UsageError(
            f"the tokenizer {config.tokenizer!r} has {tokenizer.vocab_size:,} tokens but model.vocab_size="
            f"{config.model.vocab_size:,}: set model.vocab_size={enough}, or choose another tokenizer"
        )


def _result(session: Session, folder: Path, reason: str) -> RunResult:
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
        validation=_judge(session, model) if state.ended and session.validation else None,
        exit_code={"interrupted": session.stop.exit_code, "diverged": 1}.get(reason, 0),
    )


def _judge(session: Session, folder: Path) -> Likelihood:
    """The figure to report: of the model in `folder`, on every validation story."""
    best = session.state.best_pass
    if best is not None and best["stories"] == len(session.validation):
        return Likelihood(**best)
    model, tokenizer = load(folder)
    assert tokenizer is not None  # a checkpoint has one
    return evaluate(model.to(session.learner.model.device), tokenizer, session.validation)


def _last_words(session: Session, result: RunResult) -> str:
    if result.reason == "interrupted":
        return f"saved at step {result.steps:,}; go on with: storylm train --resume {result.folder}"
    if result.reason == "diverged":
        kept = f"the last good checkpoint is in {result.model}" if result.model.exists() else "nothing was saved yet"
        return (
            f"stopped at step {result.steps:,}: {session.state.bad_in_a_row} updates in a row were not finite "
            f"({result.skipped} in all); {kept}. Try a lower optim.lr, a smaller optim.clip or train.precision=fp32"
        )
    judged = result.validation
    figure = f"; {judged.bits_per_byte:.3f} bits per byte on {judged.stories:,} validation stories" if judged else ""
    return f"{result.reason} at step {result.steps:,}{figure}; the model is in {result.model}"

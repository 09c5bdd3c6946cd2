"""Build everything a run needs, go through the loop, and say how it ended."""

import math
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from storylm.config.errors import CheckpointError, UsageError
from storylm.config.files import write_text
from storylm.config.load import apply_overrides, from_yaml, to_yaml
from storylm.config.schema import RunConfig
from storylm.data.batches import PackedBatches, PaddedBatches
from storylm.data.prepare import Prepared, prepare_cached
from storylm.data.preparing.plan import OWN
from storylm.export.card import write_card
from storylm.export.provenance import provenance
from storylm.model.families import to_config_json
from storylm.model.store import load, write_model_files
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.training.checkpoint import Checkpoints
from storylm.training.clock import Clock, MinuteClock, StepClock
from storylm.training.device import default_threads, pick_device, pick_precision, reuse_freed_memory, use_compile
from storylm.training.distributed import Ranks
from storylm.training.joining import joined
from storylm.training.learner import Learner
from storylm.training.loop import train_loop
from storylm.training.manifest import write_manifest
from storylm.training.observers import Observer, Observers, build_observers
from storylm.training.out_of_memory import OutOfMemoryError, memory_warning
from storylm.training.parallel import check_parallel
from storylm.training.result import RunResult, last_words, result_of
from storylm.training.run_folder import (
    check_run_folder,
    differences,
    saved_config,
    sole_writer,
    with_absolute_paths,
    writing_to,
)
from storylm.training.session import Batches, Session
from storylm.training.signals import StopSignal
from storylm.training.state import shared_state
from storylm.training.voice import one_voice
from storylm.training.warm_start import warm_start

LAYOUTS = {"packed": PackedBatches, "padded": PaddedBatches}


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
    ranks = joined()
    folder = out or Path("runs") / config.name
    with one_voice(ranks):
        with ranks.main_first():
            config = with_absolute_paths(config)
            if ranks.is_main:
                check_run_folder(folder, config, fresh)
        return _run(config, folder, ranks, fresh=fresh, observers=observers)


def resume_run(folder: Path, overrides: Sequence[str] = ()) -> RunResult:
    """Go on with the run in `folder`; `overrides` (key=value) change its settings from here on."""
    ranks = joined()
    with one_voice(ranks):
        text, extended = b"", False
        with ranks.main_first():
            if ranks.is_main:  # only there need the folder be
                saved = saved_config(folder)
                config = _resumed(saved, folder, overrides)
                text, extended = to_yaml(config).encode(), config != saved
        config = from_yaml(ranks.share(text).decode(), f"{folder}/config.yaml")
        return _run(config, folder, ranks, extended=any(ranks.highest([extended])))


def _resumed(saved: RunConfig | None, folder: Path, overrides: Sequence[str]) -> RunConfig:
    if saved is None:
        raise CheckpointError(f"{folder} holds no run (no config.yaml in it): nothing to go on with")
    config = with_absolute_paths(apply_overrides(saved, overrides))
    if config.model != saved.model:
        raise UsageError(
            f"a run keeps its model ({differences(saved, config)}): leave the model as it is, or begin another run"
        )
    return config


def _run(
    config: RunConfig,
    folder: Path,
    ranks: Ranks,
    fresh: bool = False,
    extended: bool = False,
    observers: Sequence[Observer] | None = None,
) -> RunResult:
    with ranks.leaders_first():
        means = _find_means(config, ranks)
    device, tokenizer, batches = means.device, means.prepared.tokenizer, means.batches
    if device.type == "cpu":
        torch.set_num_threads(config.train.threads or default_threads())
        reuse_freed_memory()

    with ExitStack() as stack:
        checkpoints = Checkpoints(
            folder / "checkpoints", lambda target: write_model_files(learner.wrapped.plain, tokenizer, target)
        )
        clock = _build_clock(config, batches)
        compiled = use_compile(config, device)  # by the run's clock, as it may build kernels
        model, found = new_model(config), None
        with ranks.main_first():
            if ranks.is_main:
                stack.enter_context(sole_writer(folder, fresh))
                with writing_to(folder):  # what a crash left there is put right
                    found = checkpoints.latest()
                if found is not None:
                    model.load_state_dict(load(found.folder)[0].state_dict())
                elif config.train.warm_start == "bigrams":
                    warm_start(model, means.prepared.split("train"), config.train.seed)
        stop = stack.enter_context(StopSignal(answers=ranks.is_main))
        ranks.share_weights(model)
        learner = Learner(model.to(device), config, means.precision, compiled, ranks)
        session = Session(
            config,
            learner,
            tokenizer,
            batches,
            means.prepared.validation_stories(),
            means.prepared.tokens("validation"),
            clock,
            checkpoints,
            stop,
        )
        saved = shared_state(found.state if found else None, ranks)
        if saved is not None:
            session.restore(saved)
            # The same after a process that was extended and died before its first checkpoint.
            unfinished = isinstance(session.clock, StepClock) and session.clock.progress(session.state.step) < 1.0
            if extended or (session.state.ended == "finished" and unfinished):
                session.state.ended = None
        with ranks.main_first():
            if ranks.is_main:
                with writing_to(folder):
                    write_manifest(folder, means.prepared)
                    write_text(folder / "config.yaml", to_yaml(config))
                if observers is None:
                    observers = build_observers(config, folder, session.state.step)
                session.observers = Observers(observers)
        if (warning := memory_warning(config, means.precision, device)) is not None:
            session.observers.message(warning)
        try:
            reason = session.state.ended or train_loop(session)
        except OutOfMemoryError as error:
            raise error.in_run(folder) from None
        finally:
            session.observers.close()
        result = result_of(session, folder, reason)
        if ranks.is_main and session.state.ended:
            _write_cards(folder, config, tokenizer)
        session.observers.message(last_words(session, result))
        return result


def _write_cards(folder: Path, config: RunConfig, tokenizer: Tokenizer) -> None:
    """A model card in the checkpoints that one loads, once the run is over; no run is to fail for want of one."""
    with suppress(OSError):
        for checkpoint in (folder / "checkpoints" / name for name in ("best", "last")):
            if checkpoint.is_dir():
                write_card(checkpoint, config.model, tokenizer, folder.absolute().name, provenance(checkpoint))


@dataclass(frozen=True)
class _Means:
    """What a run works with on this machine."""

    device: torch.device
    precision: str
    prepared: Prepared
    batches: Batches


def _find_means(config: RunConfig, ranks: Ranks) -> _Means:
    """Prepare the stories; whatever can be refused is refused here, before the run's folder is touched."""
    device = pick_device(ranks.device(config.train.device))
    precision = pick_precision(config.train.precision, device)
    check_parallel(config, precision, ranks)
    to_config_json(config.model)
    if config.tokenizer != OWN:
        check_vocabulary(config, Tokenizer.load(config.tokenizer))
    prepared = prepare_cached(config)
    check_vocabulary(config, prepared.tokenizer)
    batches = build_batches(config, prepared)
    batches.micro_batches(ranks.size)
    return _Means(device, precision, prepared, batches)


def new_model(config: RunConfig) -> Transformer:
    """The model of a run before its first step, on the CPU."""
    model = Transformer(config.model)
    model.initialise(torch.Generator().manual_seed(config.train.seed))
    return model


def build_batches(config: RunConfig, prepared: Prepared) -> Batches:
    """The batches that a run of `config` learns from."""
    return LAYOUTS[config.data.layout](
        prepared.split("train"),
        context=config.row_length,
        batch_size=config.train.batch_size,
        accumulation=config.train.accumulation,
        seed=config.train.seed,
        separate_stories=config.data.separate_stories,
        loss_on=config.data.loss_on,
    )


def _build_clock(config: RunConfig, batches: Batches) -> Clock:
    train = config.train
    if train.minutes is not None:
        return MinuteClock(train.minutes)
    if train.steps is not None:
        return StepClock(train.steps)
    return StepClock(max(1, math.ceil((train.epochs or 1.0) * batches.steps_per_epoch)))


def check_vocabulary(config: RunConfig, tokenizer: Tokenizer) -> None:
    """Raise `UsageError` where the tokenizer has more tokens than the model has rows for."""
    if tokenizer.vocab_size > config.model.vocab_size:
        enough = -(-tokenizer.vocab_size // 64) * 64
        raise UsageError(
            f"the tokenizer {config.tokenizer!r} has {tokenizer.vocab_size:,} tokens but model.vocab_size="
            f"{config.model.vocab_size:,}: set model.vocab_size={enough}, or choose another tokenizer"
        )

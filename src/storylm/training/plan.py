"""What a run will take, before it is begun: arithmetic from the settings, the rest from a probe."""

import math
from dataclasses import dataclass

from storylm.config.schema import RunConfig
from storylm.model.count import PROCESS_BYTES, flops_per_token, parameters
from storylm.training.corpus_size import epoch_tokens, tokens_per_row, validation_stories
from storylm.training.device import pick_device, pick_precision, use_compile
from storylm.training.needs import checkpoint_bytes, training_bytes
from storylm.training.probe import Probe, Watch, probe

CHECKPOINTS = 4  # last, previous, best, and the one being written


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes, times in seconds; None for what cannot be known without the stories or without a probe.

    `memory_bytes` is the peak of the training process, measured by the probe, else estimated. `seconds` is all of
    the run from its first step on: `compile_seconds`, the steps, and judging, telling and saving (`other_seconds`).
    Where it is not known how many stories there are to judge, that is left out.
    """

    name: str
    device: str
    precision: str
    compiled: bool
    parameters: int
    flops_per_token: int
    memory_bytes: int
    memory_measured: bool
    disk_bytes: int
    tokens_per_step: int
    tokens: int | None
    steps: int | None
    tokens_per_second: float | None
    share_of_peak: float | None
    compile_seconds: float | None
    seconds_per_step: float | None
    other_seconds: float | None
    validation_stories: int | None
    seconds: float | None


def plan_run(config: RunConfig, measure: bool = True, watch: Watch | None = None) -> Plan:
    """The plan of a run on this machine. `measure` rehearses some steps of it (`training.probe`).

    Downloads and prepares nothing: the tokens of an epoch are known of prepared folders and of TinyStories.
    """
    train, model = config.train, config.model
    device = pick_device(train.device)
    precision = pick_precision(train.precision, device)
    measured = probe(config, watch) if measure else None
    tokens_per_step = round(train.batch_size * train.accumulation * tokens_per_row(config))
    step = None if measured is None else train.batch_size * train.accumulation / measured.rows * measured.step_seconds
    steps, tokens = _length(config, tokens_per_step, measured, step)
    other = None if measured is None or steps is None else _other_seconds(config, steps, measured)
    seconds = 60 * train.minutes if train.minutes is not None else None
    if measured is not None and step is not None and other is not None and steps is not None and seconds is None:
        seconds = measured.compile_seconds + steps * step + other
    flops = flops_per_token(model, round(tokens_per_row(config)))
    speed = None if step is None else tokens_per_step / step
    memory = None if measured is None else measured.memory_bytes
    estimate = training_bytes(config, train.batch_size, precision, device)
    estimate += PROCESS_BYTES if device.type != "cuda" else 0
    return Plan(
        name=config.name,
        device=str(device),
        precision=precision,
        compiled=use_compile(config, device),
        parameters=parameters(model),
        flops_per_token=flops,
        memory_bytes=memory or estimate,
        memory_measured=memory is not None,
        disk_bytes=checkpoint_bytes(config) * (CHECKPOINTS + _kept(config, steps)),
        tokens_per_step=tokens_per_step,
        tokens=tokens,
        steps=steps,
        tokens_per_second=speed,
        share_of_peak=None if measured is None or speed is None else flops * speed / measured.matmul_flops,
        compile_seconds=None if measured is None else measured.compile_seconds,
        seconds_per_step=step,
        other_seconds=other,
        validation_stories=validation_stories(config),
        seconds=seconds,
    )


def _length(
    config: RunConfig, tokens_per_step: int, measured: Probe | None, step: float | None
) -> tuple[int | None, int | None]:
    """Steps and tokens of the whole run."""
    train = config.train
    if train.minutes is not None:
        if measured is None or step is None:
            return None, None
        # What is done besides steps depends on how many there are, and the other way round: twice is enough.
        left = 60 * train.minutes - measured.compile_seconds
        steps = max(1, int(left / step))
        steps = max(1, int((left - _other_seconds(config, steps, measured)) / step))
        return steps, steps * tokens_per_step
    if train.steps is not None:
        return train.steps, train.steps * tokens_per_step
    tokens = epoch_tokens(config)
    if tokens is None:
        return None, None
    tokens = round(tokens * (train.epochs or 1.0))
    return max(1, math.ceil(tokens / tokens_per_step)), tokens


def _other_seconds(config: RunConfig, steps: int, measured: Probe) -> float:
    """Judging, telling and saving in a run of so many steps; every pass over validation is taken for the best yet."""
    train = config.train
    every = validation_stories(config)
    judged = min(train.eval_stories or every or 0, every or train.eval_stories or 0)
    passes = _times(train.eval_every, steps)
    stories = passes * judged + (every if every is not None and judged < every else 0)  # all of them once, at the end
    saves = max(_times(train.save_every, steps), passes)
    tellings = 1 + (steps // train.sample_every if train.sample_every else 0)
    return stories * measured.judging_seconds + tellings * measured.telling_seconds + saves * measured.saving_seconds


def _times(every: int, steps: int) -> int:
    """How often something happens that is done every so many steps (0: never) and at the end."""
    return math.ceil(steps / every) if every else 1


def _kept(config: RunConfig, steps: int | None) -> int:
    """Checkpoints that are kept for good."""
    if steps is None:
        return 0
    regular = steps // config.train.keep_every if config.train.keep_every else 0
    return regular + (steps.bit_length() if config.train.keep_log_spaced else 0)

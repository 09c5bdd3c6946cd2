"""What a run will take, before it is begun: arithmetic from the settings, speed from a short probe."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from storylm.config.errors import SetupError
from storylm.config.files import expanded
from storylm.config.schema import RunConfig
from storylm.data.batches import Batch
from storylm.data.prepared import read_manifest
from storylm.model.count import checkpoint_bytes, flops_per_token, parameters, training_bytes
from storylm.model.transformer import Transformer
from storylm.training.device import pick_device, pick_precision, reuse_freed_memory
from storylm.training.learner import Learner

PROBE_SECONDS = 6.0
CHECKPOINTS = 4  # last, previous, best, and the one being written


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes, times in seconds; None for what cannot be known without the stories or without a probe."""

    name: str
    device: str
    precision: str
    parameters: int
    flops_per_token: int
    training_bytes: int
    tokens_per_step: int
    tokens: int | None
    steps: int | None
    disk_bytes: int
    tokens_per_second: float | None
    seconds: float | None


@dataclass(frozen=True)
class Corpus:
    """The size of a corpus's training split, cleaned."""

    stories: int
    bytes: int


# The named corpora as cleaning leaves them. V1: of 2,119,719 stories about 1,798,254 stay; the same share is taken of
# its bytes. V2 as published.
CORPORA = {
    "tinystories": Corpus(1_798_254, round(1.92e9 * 1_798_254 / 2_119_719)),
    "tinystories-v2": Corpus(2_717_699, 2_230_000_000),
}
# Of our own BPE by its size, trained on 3 MB of TinyStories, measured on other stories of it.
BPE_BYTES_PER_TOKEN = ((257, 1.0), (512, 2.40), (1024, 3.13), (2048, 3.61), (4096, 3.88), (10_000, 4.08))
_STORY = CORPORA["tinystories"].bytes / CORPORA["tinystories"].stories  # bytes; stories of unknown corpora are like it


def plan_run(config: RunConfig, probe: bool = True) -> Plan:
    """The plan of a run on this machine. `probe` trains for some seconds on random tokens to measure the speed.

    Downloads and prepares nothing: the tokens of an epoch are known of prepared folders and of TinyStories.
    """
    train = config.train
    device = pick_device(train.device)
    precision = pick_precision(train.precision, device)
    optimizer = config.optim.optimizer
    tokens_per_step = round(train.batch_size * train.accumulation * tokens_per_row(config))
    speed = probe_speed(config, device, precision) if probe else None
    steps, tokens = _length(config, tokens_per_step, speed)
    if train.minutes is not None:
        seconds = train.minutes * 60
    else:
        seconds = None if tokens is None or speed is None else tokens / speed
    return Plan(
        name=config.name,
        device=str(device),
        precision=precision,
        parameters=parameters(config.model),
        flops_per_token=flops_per_token(config.model, round(tokens_per_row(config))),
        training_bytes=training_bytes(
            config.model, train.batch_size, config.row_length, precision, optimizer, device.type
        ),
        tokens_per_step=tokens_per_step,
        tokens=tokens,
        steps=steps,
        disk_bytes=checkpoint_bytes(config.model, optimizer) * (CHECKPOINTS + _kept(config, steps)),
        tokens_per_second=speed,
        seconds=seconds,
    )


def tokens_per_row(config: RunConfig) -> float:
    """Tokens that a row teaches: all of it where packed, those of a story where padded."""
    if config.data.layout == "packed":
        return config.row_length
    return min(config.row_length, _STORY / bytes_per_token(config) + 1)


def bytes_per_token(config: RunConfig) -> float:
    """How much English of TinyStories one token is worth, as measured for tokenizers of each kind and size."""
    fixed = {"bytes": 1.0, "mistral": 3.75, "gpt2": 4.05}
    if config.tokenizer in fixed:
        return fixed[config.tokenizer]
    sizes, worth = zip(*BPE_BYTES_PER_TOKEN, strict=True)
    return float(np.interp(math.log(config.model.vocab_size), np.log(sizes), worth))


def epoch_tokens(config: RunConfig) -> int | None:
    """Tokens in a pass over the training stories, special ones included; None where that is not known yet."""
    manifest = read_manifest(expanded(config.data.source))
    if manifest is not None:
        return manifest["splits"]["train"]["tokens"]
    corpus = CORPORA.get(config.data.source)
    if corpus is None:
        return None
    share = min(1.0, (config.data.max_stories or corpus.stories) / corpus.stories)
    return round(share * (corpus.bytes / bytes_per_token(config) + corpus.stories))


def probe_speed(config: RunConfig, device: torch.device, precision: str) -> float:
    """Tokens a second of real, uncompiled updates on random tokens, in at most about fifteen seconds.

    Rows of the run's own length; as many of its batch as a step of a second or two holds.
    """
    if device.type == "cpu":
        torch.set_num_threads(config.train.threads or torch.get_num_threads())
        reuse_freed_memory()
    with _fitting(config):
        model = Transformer(config.model).initialise(torch.Generator().manual_seed(0)).to(device)
        learner = Learner(model, config, precision, compiled=False)
        length = round(tokens_per_row(config))
        _update_seconds(learner, 1, length)  # the first one also loads kernels and makes the optimizer's state
        rows, began, limit = 1, time.perf_counter(), PROBE_SECONDS / 3
        while rows < config.train.batch_size and min(_update_seconds(learner, rows, length) for _ in range(2)) < limit:
            rows = min(2 * rows, config.train.batch_size)
        times: list[float] = []
        while len(times) < 3 or (time.perf_counter() - began < 2 * PROBE_SECONDS and len(times) < 20):
            times.append(_update_seconds(learner, rows, length))
    return rows * length / min(times)  # whatever else the machine does only ever makes a step slower


def _update_seconds(learner: Learner, rows: int, length: int) -> float:
    tokens_BT = torch.randint(learner.model.config.vocab_size, (rows, length + 1))
    batch = Batch(tokens_BT[:, :-1], tokens_BT[:, 1:])
    began = time.perf_counter()
    learner.update([batch], factor=0.01, seed=0)  # reads the gradient's norm, so the device is done when it returns
    return time.perf_counter() - began


@contextmanager
def _fitting(config: RunConfig) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        batch = config.train.batch_size
        raise SetupError(
            f"train.batch_size={batch} does not fit this device's memory: set train.batch_size={max(1, batch // 2)} "
            f"and train.accumulation={2 * config.train.accumulation} for the same steps"
        ) from error


def _length(config: RunConfig, tokens_per_step: int, speed: float | None) -> tuple[int | None, int | None]:
    """Steps and tokens of the whole run."""
    train = config.train
    if train.minutes is not None:
        if speed is None:
            return None, None
        steps = max(1, int(train.minutes * 60 * speed / tokens_per_step))
        return steps, steps * tokens_per_step
    if train.steps is not None:
        return train.steps, train.steps * tokens_per_step
    tokens = epoch_tokens(config)
    if tokens is None:
        return None, None
    tokens = round(tokens * (train.epochs or 1.0))
    return max(1, math.ceil(tokens / tokens_per_step)), tokens


def _kept(config: RunConfig, steps: int | None) -> int:
    """Checkpoints that are kept for good."""
    if steps is None:
        return 0
    regular = steps // config.train.keep_every if config.train.keep_every else 0
    return regular + (steps.bit_length() if config.train.keep_log_spaced else 0)

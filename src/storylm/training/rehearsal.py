"""A run of a few steps that does everything a run does, to measure what one takes. `probe` starts it as a process.

    python -m storylm.training.rehearsal < SETTINGS.yaml

The folder is a temporary one, the stories are random tokens unless prepared ones are given. Prints a line of JSON for
every thing done, and a last one with the figures.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from storylm.config.errors import UserError
from storylm.config.files import expanded
from storylm.config.load import from_yaml
from storylm.config.schema import RunConfig
from storylm.data.prepared import Prepared, read_manifest
from storylm.model.store import write_model_files
from storylm.text.tokenizer import Tokenizer
from storylm.training.checkpoint import Checkpoints
from storylm.training.clock import StepClock
from storylm.training.corpus_size import story_tokens, validation_stories
from storylm.training.curves import LossPlot
from storylm.training.device import pick_device, pick_precision, reuse_freed_memory, use_compile
from storylm.training.learner import Learner
from storylm.training.memory import peak_memory
from storylm.training.metrics import MetricsFile
from storylm.training.observers import Observers
from storylm.training.peak import matmul_peak
from storylm.training.random_batches import RandomBatches
from storylm.training.run import build_batches, check_vocabulary, new_model
from storylm.training.session import Batches, Session
from storylm.training.signals import StopSignal

STEPS, SECONDS = 20, 30.0  # whichever comes first, once the first step is done, but
FEWEST_STEPS, FEWEST_SECONDS = 3, 2.0
ENOUGH_SECONDS = 60.0  # after which no further step begins, however few there were
AT_ONCE = 16  # full rows that `evaluate` takes at a time
Say = Callable[[dict[str, Any]], None]


def rehearse(config: RunConfig, folder: Path, say: Say, first_step_only: bool = False) -> dict[str, Any]:
    """Go through the parts of a run in `folder`, which is empty; the figures, in seconds and bytes.

    A step of the rehearsal has two micro-batches where the run's has more: the memory is that of any number.
    """
    train = config.train
    device = pick_device(train.device)
    precision, compiled = pick_precision(train.precision, device), use_compile(config, device)
    if device.type == "cpu":
        torch.set_num_threads(train.threads or torch.get_num_threads())
        reuse_freed_memory()
    micro_batches = min(2, train.accumulation)
    short = train.model_copy(update={"accumulation": micro_batches})
    session, longest = _session(config.model_copy(update={"train": short}), folder, device, precision, compiled)

    def seconds(action: Callable[[], Any]) -> float:
        return _seconds(action, device)

    def step() -> None:
        session.update(factor=0.01)

    rows = train.batch_size * micro_batches
    say({"doing": "compiling" if compiled else "the first step"})
    first = seconds(step)
    if first_step_only:
        session.observers.close()
        return {"first_step": first}
    steps: list[float] = []
    began = time.perf_counter()
    while _more(len(steps), time.perf_counter() - began):
        say({"doing": f"step {len(steps) + 1}"})
        steps.append(seconds(step))
    session.log()
    figures = {
        "first_step": first,
        "steps": len(steps),
        # Padded, the first has a new width, for which it may compile; the only one stands for all the same.
        "step": median(steps[1:] if config.data.layout == "padded" and len(steps) > 1 else steps),
        "rows": rows,
        "compiled": compiled,
        "compiled_anew": _compiled_anew(),
        "peak": matmul_peak(device, precision),
    }
    say({"doing": "judging, telling and saving"})
    if stories := session.validation:
        figures["judging"] = seconds(session.evaluate) / len(stories)
        session.validation = longest
        session.evaluate()
        figures["telling"] = seconds(session.sample)
    figures["saving"] = seconds(session.save)
    session.observers.close()
    figures["memory"] = peak_memory(device)
    return figures


def _more(steps: int, seconds: float) -> bool:
    """Whether another step is to be measured, after so many in so many seconds."""
    if not steps:
        return True
    if steps < FEWEST_STEPS:
        return seconds < ENOUGH_SECONDS
    return seconds < FEWEST_SECONDS or (steps < STEPS and seconds < SECONDS)


def _session(
    config: RunConfig, folder: Path, device: torch.device, precision: str, compiled: bool
) -> tuple[Session, list[str]]:
    """A session like the run's, and the stories that take the most memory to judge."""
    learner = Learner(new_model(config).to(device), config, precision, compiled)
    batches, tokenizer, stories, longest = _stories(config)
    session = Session(
        config,
        learner,
        tokenizer,
        batches,
        stories,
        0,
        StepClock(2 * STEPS),
        Checkpoints(
            folder / "checkpoints",
            lambda target: write_model_files(learner.wrapped.plain, tokenizer if stories else None, target),
        ),
        StopSignal(),
    )
    metrics = MetricsFile(folder / "metrics.jsonl", 0)
    session.observers = Observers([metrics, LossPlot(metrics.path, folder / "loss.png")])
    return session, longest


def _stories(config: RunConfig) -> tuple[Batches, Tokenizer, list[str], list[str]]:
    """What to learn from, the tokenizer, about as many stories as are judged at once, and as many of the longest.

    The run's own where they are prepared in a folder that is given as the source. Else random tokens; and to judge,
    stories with a byte for each token that the run's would have, or none where the model has not even room for bytes.
    """
    mean, context = story_tokens(config), config.model.context
    judged = config.train.eval_stories or validation_stories(config) or 1000
    count = min(judged, max(1, round(AT_ONCE * context / mean)))
    source = expanded(config.data.source)
    if read_manifest(source) is not None:
        prepared = Prepared.load(source)
        check_vocabulary(config, prepared.tokenizer)
        stories = prepared.validation_stories()
        longest = sorted(stories[: config.train.eval_stories], key=len)[-count:]
        return build_batches(config, prepared), prepared.tokenizer, stories[:count], longest
    batches: Any = RandomBatches(config, round(mean))
    tokenizer = Tokenizer.load("bytes")
    if tokenizer.vocab_size > config.model.vocab_size:
        return batches, tokenizer, [], []
    stories = ["x" * max(1, round(mean * (0.5 + (number + 0.5) / count))) for number in range(count)]
    return batches, tokenizer, stories, ["x" * context] * min(AT_ONCE, judged)


def _seconds(action: Callable[[], Any], device: torch.device) -> float:
    began = time.perf_counter()
    action()
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return time.perf_counter() - began


def _compiled_anew() -> bool:
    """Whether the compiler found something that it had not kept from an earlier time."""
    return torch._dynamo.utils.counters["inductor"]["fxgraph_cache_miss"] > 0


def main() -> int:
    """Read settings, rehearse, print."""
    # What the compiler or a library prints must not get between our lines.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=out, flush=True)

    config = from_yaml(sys.stdin.read(), "the settings to rehearse")
    try:
        with tempfile.TemporaryDirectory(prefix="storylm-plan-") as folder:
            say({"figures": rehearse(config, Path(folder), say, "--first-step-only" in sys.argv)})
    except UserError as error:
        say({"error": str(error), "exit_code": error.exit_code})
    return 0


if __name__ == "__main__":
    sys.exit(main())

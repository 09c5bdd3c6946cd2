"""Run folders as `storylm train` leaves them, made in a moment, with losses that are known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storylm.config.load import apply_overrides, to_yaml
from storylm.config.schema import RunConfig
from storylm.training.metrics import MetricsFile
from storylm.training.samples import SamplesFile
from training.told import evaluation_record, step_record

TINY = ("model.family=llama", "model.vocab_size=320", "model.context=64", "model.layers=2", "model.width=32")


def run_folder(
    folder: Path,
    passes: Sequence[tuple[int, float]],
    settings: Sequence[str] = (),
    seconds_per_step: float = 1.0,
    ended: str | None = "finished",
    data: str = "d" * 64,
    **step: Any,
) -> Path:
    """A run of 100 tokens a step; `passes` are steps with the bits per byte of an evaluation there."""
    folder.mkdir(parents=True)
    config = apply_overrides(RunConfig(name="tiny"), [*TINY, "train.sample_prompts=[Once,Tom]", *settings])
    (folder / "config.yaml").write_text(to_yaml(config))
    counts = {"stories": 300, "tokens": 9000, "bytes": 30_600, "dropped": {"near_duplicates": 7}}
    session = {
        "started": "2026-01-01T00:00:00+00:00",
        "data": data,
        "tokenizer": "t" * 64,
        "stories": {"train": counts},
    }
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "sessions": [session]}))
    metrics, samples = MetricsFile(folder / "metrics.jsonl", 0), SamplesFile(folder / "samples.md", 0)
    for number, bits in passes:
        about = {"tokens": 100 * number, "seconds": seconds_per_step * number}
        metrics.after_step(step_record(number, **{"loss": 3 * bits, **about, **step}))
        metrics.after_evaluation(
            evaluation_record(number, bits_per_byte=bits, nats_per_token=2.5 * bits, perplexity=12.0, **about)
        )
        for prompt in ("Once", "Tom"):
            samples.after_sample(number, f"{prompt} upon <b> step {number}.\nThe end.")
    metrics.close(), samples.close()
    state = folder / "checkpoints" / "last" / "trainer_state.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"values": {"state": {"ended": ended}}}))
    return folder

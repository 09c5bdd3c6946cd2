"""What a loop tells its observers, with every value of the test's choosing or a plausible one."""

from typing import Any

from storylm.training.records import EvaluationRecord, StepRecord


def step_record(step: int, **values: Any) -> StepRecord:
    plausible: dict[str, Any] = {
        "steps": 1000,
        "progress": step / 1000,
        "loss": 2.5,
        "lr": 1e-3,
        "gradient_norm": 0.75,
        "tokens": 64 * step,
        "epoch": step / 500,
        "tokens_per_second": 41_234.0,
        "seconds": step / 10,
        "skipped": 0,
        "share_of_peak": 0.3141,
        "memory_bytes": 1_234_567_890,
    }
    return StepRecord(step=step, **plausible | values)


def evaluation_record(step: int, **values: Any) -> EvaluationRecord:
    plausible: dict[str, Any] = {
        "tokens": 64 * step,
        "epoch": step / 500,
        "seconds": step / 10,
        "nats_per_token": 2.0,
        "perplexity": 7.389,
        "bits_per_byte": 0.731,
        "best": True,
    }
    return EvaluationRecord(step=step, **plausible | values)

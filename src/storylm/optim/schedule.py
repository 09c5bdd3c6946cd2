"""Learning-rate schedules: pure functions of the step and of how far the run is, so there is nothing to save."""

import math
from collections.abc import Callable

from storylm.config.schema import OptimConfig

# Each shape maps a run's progress (0 at the start, 1 at the end) to 1 (peak) .. 0 (end of the fall).
SHAPES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda progress, decay_share: 1.0,
    "linear": lambda progress, decay_share: 1.0 - progress,
    "cosine": lambda progress, decay_share: 0.5 * (1.0 + math.cos(math.pi * progress)),
    # Warm-up, stable, decay (Hu et al. 2024): flat, then a straight line over the last share of the run.
    "wsd": lambda progress, decay_share: min(1.0, (1.0 - progress) / decay_share),
}


def learning_rate_factor(config: OptimConfig, step: int, progress: float) -> float:
    """What every peak learning rate is multiplied by in update number `step` (from 0).

    `progress` is the share of the run done when the update begins, of its steps or of its minutes.

    >>> config = OptimConfig(schedule="linear", warmup_steps=10, final_lr_ratio=0.0)
    >>> learning_rate_factor(config, step=4, progress=0.0), learning_rate_factor(config, step=50, progress=0.5)
    (0.5, 0.5)
    """
    progress = min(max(progress, 0.0), 1.0)
    if config.warmup_share is not None:
        # One step's worth above zero, or the very first update would be wasted.
        warm = min(1.0, max(progress, 1e-3) / config.warmup_share) if config.warmup_share else 1.0
    else:
        warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "constant":
        return warm
    shape = SHAPES[config.schedule](progress, config.decay_share)
    return warm * (config.final_lr_ratio + (1.0 - config.final_lr_ratio) * shape)

"""Calibration: is the model right as often as it is sure?

Of every prediction, the probability of the likeliest token and whether that token came. Predictions are sorted by
that probability and cut into bins of as many each; the expected calibration error is the mean distance between the
two over bins (Guo et al. 2017; bins of equal mass are the adaptive ones of Nixon et al. 2019).
"""

# N tokens, D width, V vocabulary

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

BINS = 15
_ELEMENTS = 2**23  # logits at a time


@torch.inference_mode()
def likeliest(hidden_ND: Tensor, head_weight_VD: Tensor, targets_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each likeliest token [N], and whether it is the target [N]."""
    rows = max(1, _ELEMENTS // len(head_weight_VD))
    sure, right = [], []
    for hidden_CD, targets_C in zip(hidden_ND.split(rows), torch.from_numpy(targets_N).split(rows), strict=True):
        best_C = (hidden_CD @ head_weight_VD.T).float().softmax(-1).max(-1)
        sure.append(best_C.values.cpu().numpy())
        right.append((best_C.indices.cpu() == targets_C).numpy())
    return np.concatenate(sure), np.concatenate(right)


@dataclass(frozen=True)
class Bin:
    """Predictions about as sure as each other."""

    tokens: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """`error` is between 0 and 1; the bins are in order of confidence."""

    error: float
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        return {"expected_calibration_error": self.error, "bins": [vars(one) for one in self.bins]}


def calibrate(sure_N: np.ndarray, right_N: np.ndarray, bins: int = BINS) -> Calibration:
    """Bins of as many predictions each, to one; fewer bins where there are fewer predictions.

    >>> calibrate(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]), bins=1).error
    0.15
    """
    order = np.argsort(sure_N, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    table = tuple(
        Bin(len(part), float(sure_N[part].mean(dtype=np.float64)), float(right_N[part].mean())) for part in parts
    )
    gaps = sum(one.tokens * abs(one.confidence - one.accuracy) for one in table)
    return Calibration(gaps / len(order), table)

"""Decoding in C++, for a CPU. Where there is no compiler, PyTorch does the same."""

import ctypes
from pathlib import Path

import torch

from storylm.model.native.build import library


def kernels(device: torch.device | None = None) -> ctypes.CDLL | None:
    """The functions of this folder's .cpp files; None on other devices, or where they cannot be had."""
    return library(Path(__file__).parent) if device is None or device.type == "cpu" else None

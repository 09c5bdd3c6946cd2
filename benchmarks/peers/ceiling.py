"""What the machine could do at best, multiplying matrices and copying: `python -m peers.ceiling DEVICE RESULT.json`."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROUNDS = 5


def measure(device: str, size: int | None = None) -> dict[str, Any]:
    """FLOP/s of a square product (side `size`) in bf16 and fp32, and bytes/s, read and written, of a copy; the best."""
    size = size or (4096 if device == "cpu" else 16_384)
    rates: dict[str, Any] = {"matrix": size}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        rates[f"{name}_flops_per_second"] = 2 * size**3 / best_seconds(lambda a=a, b=b: a @ b, device)
    source = torch.ones(8 * size * size, device=device)  # 0.5 GB on a CPU, beyond any cache
    target = torch.empty_like(source)
    rates["copy_bytes_per_second"] = 2 * source.nbytes / best_seconds(lambda: target.copy_(source), device)
    return rates


def best_seconds(action: Callable[[], Any], device: str) -> float:
    """The fastest of some tries: whatever else the machine does only makes one slower."""
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        action()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times[1:])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(sys.argv[1])), encoding="utf-8")

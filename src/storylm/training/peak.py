"""The most arithmetic that a device can do, to hold a run's speed against: how much of the machine is used."""

import re
import time
from functools import cache

import torch

from storylm.training.device import DTYPES

# Dense 16-bit matrix multiplications with fp32 accumulation, TFLOP/s, from NVIDIA's data sheets and architecture
# white papers (where a sheet says "with sparsity", half of it). The first row whose words are all in the name counts.
HALF_PRECISION = {
    "B200": 2250.0,
    "GH200": 989.4,
    "H200": 989.4,
    "H100 PCIe": 756.5,
    "H100 NVL": 835.5,
    "H100": 989.4,
    "A100": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10G": 70.0,
    "A10": 125.0,
    "RTX A6000": 154.8,
    "L40S": 362.1,
    "L40": 181.1,
    "L4": 121.0,
    "5090": 209.5,
    "4090": 165.2,
    "3090": 71.0,
    "V100": 125.0,
    "T4": 65.1,
}
_PARTS = {"MIG", "Laptop", "Max-Q"}  # in the names of devices that have less than the whole
_SECONDS = 0.25  # for measuring
_SIZES = (256, 512, 1024, 2048, 4096, 8192)


def matmul_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of matrix multiplication on `device` in `precision` ("fp32", "bf16", "fp16").

    Of known GPUs what the maker states, in 16 bits; of anything else the fastest seen in a quarter of a second, once
    in a process. One device's: several have as many times more.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    return _peak(str(device), precision, threads)


@cache
def _peak(name: str, precision: str, threads: int) -> float:
    device = torch.device(name)
    if device.type == "cuda" and precision != "fp32":
        stated = stated_peak(torch.cuda.get_device_name(device))
        if stated is not None:
            return stated
    dtype = DTYPES[precision] or torch.float32
    if device.type != "cpu":
        return measured_peak(device, dtype)
    # One thread, times their number: where other programs use a core, threads that wait for each other measure those.
    torch.set_num_threads(1)
    try:
        return threads * measured_peak(device, dtype)
    finally:
        torch.set_num_threads(threads)


def stated_peak(name: str) -> float | None:
    """FLOP/s in 16 bits of the GPU that calls itself `name`; None where it is not in the table.

    >>> stated_peak("NVIDIA H100 80GB HBM3")
    989400000000000.0
    """
    words = set(re.split(r"[\s-]", name)) | set(name.split())
    if words & _PARTS:
        return None
    return next((1e12 * tera for key, tera in HALF_PRECISION.items() if set(key.split()) <= words), None)


def measured_peak(device: torch.device, dtype: torch.dtype, seconds: float = _SECONDS) -> float:
    """FLOP/s of the fastest of the square multiplications that `seconds` have room for, small ones and large ones.

    What else the machine does only ever makes one slower, hence the fastest.
    """
    best, until = 0.0, time.perf_counter() + seconds
    for size in _SIZES:
        a, b = (torch.full((size, size), value, dtype=dtype, device=device) for value in (0.5, 0.25))
        fastest = _matmul_seconds(a, b, device)  # at first it loads the kernel, too
        left = until - time.perf_counter()
        for _ in range(1000):
            if time.perf_counter() > until - 0.8 * left:
                break
            fastest = min(fastest, _matmul_seconds(a, b, device))
        best = max(best, 2 * size**3 / fastest)
        if time.perf_counter() + 10 * fastest > until:  # the next size is eight times the work
            return best
    return best


def _matmul_seconds(a: torch.Tensor, b: torch.Tensor, device: torch.device) -> float:
    began = time.perf_counter()
    torch.mm(a, b)
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return time.perf_counter() - began

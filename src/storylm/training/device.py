"""What this machine can do: device, precision, and whether compiling pays."""

import ctypes
import os
import platform
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from storylm.config.errors import SetupError, UsageError
from storylm.config.model import ModelConfig
from storylm.config.schema import RunConfig
from storylm.model import native

# Minutes or steps from which compiling pays, which takes some 25 seconds: it makes steps up to a half faster, or, where
# there are kernels for all of a block, by some percent.
LONG, LONG_WITH_KERNELS = (1, 200), (20, 3000)
CPU_INFO = Path("/proc/cpuinfo")  # on Linux; elsewhere Python knows the processor's maker
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def pick_device(spec: str, setting: str = "train.device") -> torch.device:
    """`auto` is CUDA, then Apple's MPS, then the CPU; anything else is a torch device that must be there.

    `setting` is what error messages call it.
    """
    if spec == "auto":
        spec = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(spec)
    except RuntimeError as error:
        raise UsageError(f"{setting}={spec!r} is no device: allowed are auto, cpu, cuda, cuda:N, mps") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    index = int(spec.partition(":")[2] or 0)  # torch keeps 8 bits of it: to it, cuda:256 is cuda:0
    if index >= counts.get(device.type, 0):
        raise SetupError(f"{setting}={spec!r}, but this machine or this build of torch has no {spec}: use auto")
    return device


def pick_precision(spec: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware multiplies it natively, on a CPU where it is also faster so; else fp32."""
    if spec != "auto":
        return spec
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and _gains_by_bf16() else "fp32"


def _gains_by_bf16() -> bool:
    """Whether this CPU multiplies matrices faster in bf16 than in fp32.

    With AMX, or AVX-512 BF16 as AMD has it, 3 to 10 times. Intel's AVX-512 BF16 takes twice as long as fp32 where AMX
    is hidden by a virtual machine (LOG.md); without either, bf16 is emulated.
    """
    return torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and not _made_by_intel())


def _made_by_intel() -> bool:
    about = CPU_INFO.read_text(encoding="utf-8") if CPU_INFO.is_file() else platform.processor()
    return "GenuineIntel" in about


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The context in which a forward pass computes in `precision`; weights stay fp32."""
    dtype = DTYPES[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def use_compile(config: RunConfig, device: torch.device) -> bool:
    """Whether to compile: `auto` where the tools are there and the run is long enough to win the time back."""
    train = config.train
    if train.compile == "off":
        return False
    missing = _missing_for_compile(device)
    if train.compile == "on":
        if missing:
            raise SetupError(f"train.compile=on needs {missing}: install it, or set train.compile=auto")
        return True
    minutes, steps = LONG_WITH_KERNELS if _has_kernels(config.model, device) else LONG
    long_enough = train.minutes is None or train.minutes >= minutes
    short = train.steps is not None and train.steps < steps
    return not missing and long_enough and not short


def _has_kernels(model: ModelConfig, device: torch.device) -> bool:
    """Whether `model.native` does all that a compiler would fuse."""
    return device.type == "cpu" and model.norm == "rmsnorm" and model.activation == "silu" and native.available(device)


def _missing_for_compile(device: torch.device) -> str | None:
    if device.type == "mps":
        return "CUDA or a CPU (torch.compile on MPS is a prototype)"
    if device.type == "cpu" and not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        return "a C++ compiler"
    return None


def default_threads() -> int:
    """CPU threads of this process: all that torch would take, or its share of the cores beside others of torchrun's.

    torchrun itself gives each of them one, unless OMP_NUM_THREADS says otherwise.
    """
    beside = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return torch.get_num_threads() if beside == 1 else max(1, (os.cpu_count() or 1) // beside)


def reuse_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next step instead of returning it to the system.

    A CPU step allocates and frees the same large tensors every time; with the default settings each comes
    as fresh zeroed pages, and the page faults cost about a quarter of a small model's step. Elsewhere than
    glibc this does nothing.
    """
    m_mmap_max, m_trim_threshold, m_top_pad = -4, -1, -2  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_top_pad, 256 * 2**20)

"""In what precision a run computes: its name, what "auto" comes to on this device, and the context for it."""

from contextlib import AbstractContextManager, nullcontext

import torch

from storylm.training.peak import DTYPES, matmul_peak

# Times as many FLOP/s as in fp32 from which bf16 pays, in spite of numbers to round. With AMX or on a Zen 5 there are
# 3 to 10 times as many; an Intel Xeon with AVX-512 BF16 and without AMX has half as many, and trains faster in fp32.
GAIN = 1.5


def pick_precision(spec: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware multiplies it natively, on a CPU where it is also the faster; else fp32."""
    if spec != "auto":
        return spec
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and _native_bf16() and _faster_in_bf16(device) else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The context in which a forward pass computes in `precision`; weights stay fp32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=DTYPES[precision])


def _native_bf16() -> bool:
    """Whether this CPU has instructions for it; without them it is emulated, many times slower."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _faster_in_bf16(device: torch.device) -> bool:
    return matmul_peak(device, "bf16") > GAIN * matmul_peak(device, "fp32")

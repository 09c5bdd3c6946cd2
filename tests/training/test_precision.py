"""The precision of a run: what was asked for, or what the device gains by."""

import pytest
import torch

import storylm.training.precision as precision_module
from storylm.training.precision import autocast, pick_precision

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))


@pytest.fixture
def cpu(monkeypatch):
    """Have a CPU with AVX-512 BF16 or not, with AMX or not, and with so many FLOP/s in each precision."""

    def have(avx512: bool, amx: bool, speeds: dict[str, float]) -> None:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(precision_module, "matmul_peak", lambda device, precision: speeds[precision])

    return have


@pytest.mark.parametrize("spec", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("device", [CPU, CUDA, MPS])
def test_a_precision_that_was_asked_for_is_used(spec, device) -> None:
    assert pick_precision(spec, device) == spec


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_auto_precision_on_cuda_is_what_the_hardware_multiplies(native, precision, monkeypatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert pick_precision("auto", CUDA) == precision


@pytest.mark.parametrize(
    ("avx512", "amx", "precision"),
    [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16"), (True, True, "bf16")],
)
def test_auto_precision_on_a_cpu_is_bf16_where_there_are_instructions_for_it(avx512, amx, precision, cpu) -> None:
    cpu(avx512, amx, {"fp32": 1.0, "bf16": 4.0})
    assert pick_precision("auto", CPU) == precision
    assert pick_precision("auto", MPS) == "fp32"


@pytest.mark.parametrize(("gain", "precision"), [(0.5, "fp32"), (1.4, "fp32"), (3.0, "bf16")])
def test_auto_precision_on_a_cpu_is_bf16_where_it_multiplies_faster(gain, precision, cpu) -> None:
    cpu(True, False, {"fp32": 0.3e12, "bf16": gain * 0.3e12})
    assert pick_precision("auto", CPU) == precision


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_forward_pass_computes_in_the_precision_and_weights_stay_fp32(precision, dtype) -> None:
    layer = torch.nn.Linear(3, 5)
    with autocast(CPU, precision):
        assert layer(torch.ones(2, 3)).dtype == dtype
    assert layer(torch.ones(2, 3)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32

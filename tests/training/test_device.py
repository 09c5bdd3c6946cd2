"""What is chosen on which machine, and what is said where a machine lacks what was asked for."""

import ctypes
import platform
import shutil

import pytest
import torch

from storylm.config.errors import SetupError, UsageError
from storylm.config.model import ModelConfig
from storylm.config.schema import RunConfig, TrainConfig
from storylm.model import native
from storylm.training import device as devices
from storylm.training.device import autocast, pick_device, pick_precision, use_compile

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def run(family: str = "gpt2", **train) -> RunConfig:
    return RunConfig(model=ModelConfig(family=family), train=TrainConfig(**train))


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many GPUs, of NVIDIA's or Apple's making."""

    def make(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return make


@pytest.mark.parametrize(
    ("cuda", "mps", "device"), [(0, False, "cpu"), (0, True, "mps"), (1, False, "cuda"), (2, True, "cuda")]
)
def test_auto_takes_the_fastest_there_is(cuda, mps, device, machine) -> None:
    machine(cuda, mps)
    assert pick_device("auto") == torch.device(device)


@pytest.mark.parametrize("spec", ["tpu", "", "cuda:x", "cuda:-1", "cpu:", "GPU", "0"])
def test_what_is_no_device_is_a_usage_error(spec, machine) -> None:
    machine(cuda=2)
    with pytest.raises(UsageError) as caught:
        pick_device(spec, "generate.device")
    assert str(caught.value) == f"generate.device={spec!r} is no device: allowed are auto, cpu, cuda, cuda:N, mps"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("spec", ["cuda", "cuda:0", "cuda:999", "mps", "meta", "cpu:1", "cpu:200"])
def test_a_device_that_this_machine_lacks_is_a_setup_error(spec, machine) -> None:
    machine()
    with pytest.raises(SetupError) as caught:
        pick_device(spec)
    assert str(caught.value).startswith(f"train.device={spec!r}, but this machine or this build of torch has no {spec}")
    assert caught.value.exit_code == 4


def test_an_index_is_among_the_devices_there_are(machine) -> None:
    machine(cuda=2, mps=True)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("mps") == MPS
    for spec in ("cuda:2", "cuda:255", "cuda:256", "cuda:257", "mps:1"):
        with pytest.raises(SetupError, match=spec):
            pick_device(spec)


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
    ("amx", "avx512", "intel", "precision"),
    [
        (False, False, True, "fp32"),
        (False, False, False, "fp32"),
        (False, True, False, "bf16"),
        (False, True, True, "fp32"),
        (True, False, True, "bf16"),
        (True, True, True, "bf16"),
    ],
)
def test_auto_precision_on_a_cpu_is_bf16_where_that_is_faster(amx, avx512, intel, precision, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(devices, "_made_by_intel", lambda: intel)
    assert pick_precision("auto", CPU) == precision
    assert pick_precision("auto", MPS) == "fp32"


@pytest.mark.parametrize(("vendor", "intel"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_the_maker_of_a_cpu_is_told_on_linux_and_elsewhere(vendor, intel, monkeypatch, tmp_path) -> None:
    (info := tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n", encoding="utf-8")
    monkeypatch.setattr(devices, "CPU_INFO", info)
    assert devices._made_by_intel() == intel
    info.unlink()
    monkeypatch.setattr(platform, "processor", lambda: f"Family 6 Model 143 Stepping 8, {vendor}")
    assert devices._made_by_intel() == intel


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_forward_pass_computes_in_the_precision_and_weights_stay_fp32(precision, dtype) -> None:
    layer = torch.nn.Linear(3, 5)
    with autocast(CPU, precision):
        assert layer(torch.ones(2, 3)).dtype == dtype
    assert layer(torch.ones(2, 3)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


def compilers(*names: str):
    return lambda name: f"/usr/bin/{name}" if name in names else None


@pytest.mark.parametrize("name", ["c++", "g++", "clang++", "cl"])
def test_any_compiler_will_do(name, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", compilers(name))
    assert use_compile(run(compile="on"), CPU)
    assert use_compile(run(compile="auto", steps=1000), CPU)


def test_compile_without_a_compiler(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", compilers("cc", "gcc"))  # C alone does not do
    with pytest.raises(SetupError, match=r"train\.compile=on needs a C\+\+ compiler: .*train\.compile=auto") as caught:
        use_compile(run(compile="on"), CPU)
    assert caught.value.exit_code == 4
    assert not use_compile(run(compile="auto", steps=10_000), CPU)
    assert not use_compile(run(compile="off"), CPU)
    assert use_compile(run(compile="on"), CUDA)  # where none is needed


def test_compile_on_mps_is_refused_and_auto_leaves_it_out(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", compilers("c++"))
    with pytest.raises(SetupError, match="MPS"):
        use_compile(run(compile="on"), MPS)
    assert not use_compile(run(compile="auto", steps=10_000), MPS)


@pytest.mark.parametrize(
    ("length", "pays"),
    [
        ({"steps": 199}, False),
        ({"steps": 200}, True),
        ({"minutes": 0.9}, False),
        ({"minutes": 1}, True),
        ({"epochs": 1}, True),
        ({}, True),
    ],
)
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_auto_compiles_where_the_run_is_long_enough(length, pays, device, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", compilers("c++"))
    assert use_compile(run(compile="auto", **length), device) is pays
    assert use_compile(run(compile="on", **length), device)
    assert not use_compile(run(compile="off", **length), device)


@pytest.mark.parametrize(
    ("length", "pays"),
    [({"steps": 2999}, False), ({"steps": 3000}, True), ({"minutes": 19}, False), ({"minutes": 20}, True), ({}, True)],
)
def test_where_kernels_do_what_it_would_compiling_pays_later(length, pays, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", compilers("c++"))
    monkeypatch.setattr(native, "available", lambda device: True)
    assert use_compile(run("qwen3", compile="auto", **length), CPU) is pays
    assert use_compile(run("qwen3", compile="auto", steps=200), CUDA)
    assert use_compile(run("gpt2", compile="auto", steps=200), CPU)
    monkeypatch.setattr(native, "available", lambda device: False)
    assert use_compile(run("qwen3", compile="auto", steps=200), CPU)


def test_memory_is_kept_where_glibc_is_and_elsewhere_nothing_fails(monkeypatch) -> None:
    class Glibc:
        told: dict[int, int] = {}  # noqa: RUF012

        def __init__(self, name: None):
            self.mallopt = self.told.__setitem__

    monkeypatch.setattr(ctypes, "CDLL", Glibc)
    devices.reuse_freed_memory()
    assert Glibc.told[-4] == 0  # M_MMAP_MAX: no block of its own mapping, which free would return
    assert Glibc.told[-1] > 2**30  # M_TRIM_THRESHOLD
    assert all(-(2**31) <= value < 2**31 for value in Glibc.told.values())  # mallopt takes an int

    for error in (OSError, TypeError):  # musl and macOS lack mallopt, Windows takes no None

        def refuse(name: None, error: type[Exception] = error):
            raise error

        monkeypatch.setattr(ctypes, "CDLL", refuse)
        devices.reuse_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    devices.reuse_freed_memory()

"""The most that a device can do: stated where it is known, measured where not."""

import pytest
import torch

import storylm.training.peak as peak_module
import storylm.training.session as session_module
from storylm.model.count import flops_per_token
from storylm.training.metrics import read_metrics
from storylm.training.peak import matmul_peak, measured_peak, stated_peak
from storylm.training.run import train_run

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A100-PCIE-40GB", 312.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.1),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("Tesla T4", 65.1),
        ("Tesla V100-SXM2-16GB", 125.0),
    ],
)
def test_known_gpus_are_known_by_whole_words(name, tera) -> None:
    assert stated_peak(name) == pytest.approx(1e12 * tera)


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "Quadro P4000", "AMD MI300X", ""]
)
def test_other_gpus_and_parts_of_known_ones_are_not(name) -> None:
    assert stated_peak(name) is None


def test_only_16_bits_are_stated(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(peak_module, "measured_peak", lambda device, dtype: 67e12)
    peak_module._peak.cache_clear()
    cuda = torch.device("cuda", 0)
    assert [matmul_peak(cuda, precision) for precision in ("bf16", "fp16", "fp32")] == [989.4e12, 989.4e12, 67e12]
    peak_module._peak.cache_clear()


def test_the_cpu_is_measured_once_for_each_precision_with_one_thread_for_all(monkeypatch) -> None:
    asked = []

    def measured(device, dtype):
        asked.append((dtype, torch.get_num_threads()))
        return 1e11

    monkeypatch.setattr(peak_module, "measured_peak", measured)
    peak_module._peak.cache_clear()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert [matmul_peak(CPU, precision) for precision in ("fp32", "bf16", "fp32")] == [2e11] * 3
        assert asked == [(torch.float32, 1), (torch.bfloat16, 1)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        peak_module._peak.cache_clear()


def test_what_is_measured_is_what_a_multiplication_reaches_and_randomness_is_left_alone(monkeypatch) -> None:
    """By a clock of which a multiplication of n x n takes n**3 / 1e9 seconds: 2 GFLOP/s whatever the size."""
    now = [0.0]

    class Multiplication:
        @staticmethod
        def mm(a, b):
            now[0] += a.shape[0] ** 3 / 1e9

    for name in ("full", "float32"):
        setattr(Multiplication, name, getattr(torch, name))
    monkeypatch.setattr(peak_module, "torch", Multiplication)
    monkeypatch.setattr(peak_module.time, "perf_counter", lambda: now[0])
    before = torch.get_rng_state()
    assert measured_peak(CPU, torch.float32) == pytest.approx(2e9)
    assert now[0] < 0.4
    assert torch.equal(torch.get_rng_state(), before)


def test_a_line_of_metrics_tells_the_share_of_the_peak_and_the_memory(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(session_module, "matmul_peak", lambda device, precision: 1e9)
    config = small("train.steps=3")
    (line,) = [
        line for line in read_metrics(train_run(config, tmp_path).folder / "metrics.jsonl") if line["kind"] == "step"
    ]
    flops = flops_per_token(config.model, 64)
    assert line["share_of_peak"] == pytest.approx(flops * line["tokens_per_second"] / 1e9, rel=0.02)
    assert line["memory_bytes"] > 100e6

"""What PyTorch does on a GPU, against the same on a CPU; and on a CPU, so that these tests are tried, too."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from generation.conftest import SHAPE, VARIANTS, build
from storylm.config.errors import CheckpointError
from storylm.config.model import ModelConfig
from storylm.generation.decoder import Decoder, Draft
from storylm.generation.draft import Turn
from storylm.generation.engine import generate
from storylm.generation.reading import PRECISIONS, Part
from storylm.generation.sampling import Sampling, as_int64, choose_alike
from storylm.generation.torch_reader import TorchReader
from storylm.model.transformer import Transformer

CUDA = [
    pytest.param(
        f"cuda:{n}", marks=[pytest.mark.gpu, pytest.mark.skipif(n >= torch.cuda.device_count(), reason="no GPU")]
    )
    for n in range(2)
]
devices = pytest.mark.parametrize("device", ["cpu", *CUDA])
SETTINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0),
    Sampling(top_k=5),
    Sampling(top_p=0.8, min_p=0.02, repetition_penalty=1.3),
]


def model(variant: str) -> Transformer:
    return build(ModelConfig(**{**SHAPE, **VARIANTS[variant], "context": 200})).eval()


def text(length: int, seed: int = 0) -> list[int]:
    return torch.randint(257, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@contextmanager
def waiting_is_an_error(device: str) -> Iterator[None]:
    if device == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@devices
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_slots_of_which_one_joins_are_read_as_on_a_cpu(variant, precision, device):
    one, other = text(150), text(100, seed=1)
    ours, theirs = (TorchReader(model(variant).to(where), 3, 200, precision) for where in (device, "cpu"))
    tolerance = {"fp32": 1e-3, "bf16": 0.2, "int8": 0.2}[precision]  # a GPU's attention is in bf16 throughout
    for reader in (ours, theirs):
        reader.read([Part(1, 0, one[:50])])
    for place in range(50, 140):
        parts = [Part(1, place, [one[place]])]
        if place >= 70:
            parts.append(Part(0, place - 50, [other[place - 50]]) if place > 70 else Part(0, 0, other[:21]))
        expected = theirs.read(parts)
        torch.testing.assert_close(ours.read(parts).cpu(), expected, rtol=0, atol=tolerance)
        assert expected.std() > 0.5


@devices
@pytest.mark.parametrize("sampling", SETTINGS)
@pytest.mark.parametrize("vocabulary", [5, 258, 5000])
def test_the_same_is_drawn_as_on_a_cpu(vocabulary, sampling, device):
    logits = torch.randn(64, vocabulary, generator=torch.Generator().manual_seed(0)) * 2
    seeds, counts = torch.tensor([as_int64(2**64 - n * 2**58 - 1) for n in range(64)]), torch.arange(64) % 7
    expected = choose_alike(logits, sampling, seeds, counts)
    given = [tensor.to(device) for tensor in (logits, seeds, counts)]
    with waiting_is_an_error(device):
        found = choose_alike(given[0], sampling, given[1], given[2])
    assert int((found.cpu() != expected).sum()) <= 1  # exponentials differ in the last bit


@devices
def test_no_step_waits(device):
    """Whoever comes: stories with every setting, and one that is watched."""
    decoder = Decoder(TorchReader(model("gpt_neo").to(device), 5, 60), 258)
    given = [Draft(text(5 + n, n), n, sampling, watch=2 if n == 3 else None) for n, sampling in enumerate(SETTINGS)]
    for draft in given[:2]:
        decoder.add(draft)
    for _ in range(3):  # what is made once
        decoder.step()
    with waiting_is_an_error(device):
        for draft in given[2:]:
            decoder.add(draft)
            for _ in range(5):
                decoder.step()
        decoder.end(given[:1])
        decoder.step()
    assert [len(draft.drawn) for draft in given] == [13, 14, 11, 6] if device == "cpu" else True
    assert len(given[3].likelihoods) == len(given[3].drawn)


@devices
def test_what_is_launched_comes_back_whatever_is_launched_after(device):
    """Three steps on their way at once."""
    network, draft = model("llama"), Draft(text(9), 3, Sampling(temperature=1.0))
    told = []
    for at_once in (1, 3):
        steps = TorchReader(network.to(device), 2, 60).steps(258)
        tickets, drawn = [], []
        for count in range(12):
            tickets.append(steps.launch([Turn(1, draft, count)]))
            if len(tickets) == at_once:
                drawn += [ticket()[0][0] for ticket in tickets]
                tickets.clear()
        told.append(drawn)
    assert told[0] == told[1]
    assert len(set(told[0])) > 5


@devices
@pytest.mark.parametrize("precision", PRECISIONS)
def test_stories_are_a_cpus(precision, device, letters, monkeypatch):
    """Nearly all: in fp32 a story in hundreds differs by a rounding, and in bf16 more."""
    monkeypatch.setattr("storylm.generation.reading.kernels", lambda device: None)
    monkeypatch.setattr("storylm.generation.sampling.kernels", lambda device: None)
    prompts = [chr(97 + n) * (n + 1) for n in range(12)]
    settings = {"max_new_tokens": 20, "precision": precision, "batch_size": 5, "temperature": 1.0}
    expected = generate(model("qwen3"), letters, prompts, **settings)
    found = generate(model("qwen3").to(device), letters, prompts, **settings)
    same = sum(one == other for one, other in zip(expected, found, strict=True))
    assert same >= (11 if precision == "fp32" else 4)


@devices
def test_scores_that_are_no_numbers_are_an_error_and_what_another_slot_had_is_not(device):
    network = model("llama").to(device)
    reader = TorchReader(network, 2, 60)
    steps, draft = reader.steps(258), Draft(text(9), 3, Sampling())
    reader.scores_NV[0].fill_(float("nan"))  # of nobody now
    steps.launch([Turn(1, draft, 0)])()
    with torch.no_grad():
        network.norm.weight.fill_(float("nan"))
    broken = TorchReader(network, 2, 60).steps(258).launch([Turn(1, draft, 0)])
    with pytest.raises(CheckpointError, match="not numbers"):
        broken()

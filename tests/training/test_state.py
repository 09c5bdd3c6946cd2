"""The trainer's state: bit for bit there and back, and nothing half-restored."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Muon, Optimizer

from storylm.config.errors import CheckpointError
from storylm.training.state import TENSORS, VALUES, TrainerState, optimizer_tensors, restore_optimizers

Build = Callable[[nn.Module], list[Optimizer]]


class Net(nn.Module):
    """An embedding, a matrix, a vector: what optimizers tell apart."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.table = nn.Embedding(11, width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.hidden(self.table(tokens)).tanh())


def fused(model: nn.Module) -> list[Optimizer]:
    return [AdamW(model.parameters(), lr=1e-2, fused=True)]


def plain(model: nn.Module) -> list[Optimizer]:
    return [AdamW(model.parameters(), lr=1e-2, fused=False)]


def muon(model: nn.Module) -> list[Optimizer]:
    """Muon for the matrix, AdamW in two groups for the rest."""
    assert isinstance(model, Net)
    others = [parameter for parameter in model.parameters() if parameter is not model.hidden.weight]
    groups = [{"params": others[:1], "weight_decay": 0.1}, {"params": others[1:]}]
    return [Muon([model.hidden.weight], lr=1e-2), AdamW(groups, lr=1e-2, fused=True)]


def momentum(model: nn.Module) -> list[Optimizer]:
    return [SGD(model.parameters(), lr=1e-2, momentum=0.9)]


def train(model: nn.Module, optimizers: list[Optimizer], steps: range) -> None:
    """A step is made of its number alone."""
    for step in steps:
        tokens = torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def trained(build: Build, steps: int = 4) -> tuple[Net, list[Optimizer]]:
    torch.manual_seed(0)
    model = Net()
    optimizers = build(model)
    train(model, optimizers, range(steps))
    return model, optimizers


def saved(build: Build, folder: Path) -> tuple[Net, TrainerState]:
    """A trained model, and the state of its optimizers as read from `folder`."""
    model, optimizers = trained(build)
    tensors, values = optimizer_tensors(optimizers, model)
    TrainerState(4, {"optimizers": values}, tensors).write(folder)
    return model, TrainerState.read(folder)


def restore(state: TrainerState, optimizers: list[Optimizer], model: nn.Module) -> None:
    restore_optimizers(optimizers, model, state.tensors, state.values["optimizers"])


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def frozen_look(optimizers: list[Optimizer], model: nn.Module) -> dict[str, tuple[torch.dtype, bytes]]:
    tensors, _ = optimizer_tensors(optimizers, model)
    return {name: (tensor.dtype, bits(tensor)) for name, tensor in tensors.items()}


# -- there and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [fused, plain, muon, momentum])
def test_training_goes_on_bit_for_bit(build: Build, tmp_path: Path) -> None:
    model, optimizers = trained(build)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors, values = optimizer_tensors(optimizers, model)
    TrainerState(4, {"optimizers": values}, tensors).write(tmp_path)
    before = frozen_look(optimizers, model)
    train(model, optimizers, range(4, 9))

    state, other = TrainerState.read(tmp_path), Net()
    other.load_state_dict(weights)
    others = build(other)
    restore(state, others, other)
    assert frozen_look(others, other) == before
    train(other, others, range(4, 9))
    assert {name: bits(tensor) for name, tensor in other.state_dict().items()} == {
        name: bits(tensor) for name, tensor in model.state_dict().items()
    }
    assert frozen_look(others, other) == frozen_look(optimizers, model)


@pytest.mark.parametrize("build", [fused, muon])
def test_without_the_state_training_goes_elsewhere(build: Build) -> None:
    """So that the test above means something."""
    model, optimizers = trained(build)
    other = Net()
    other.load_state_dict(model.state_dict())
    train(model, optimizers, range(4, 6))
    train(other, build(other), range(4, 6))
    assert not torch.equal(other.hidden.weight, model.hidden.weight)


def test_any_number_comes_back(tmp_path: Path) -> None:
    odd = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, 3.4e38])
    tensors = {
        "odd": odd,
        "half": odd.to(torch.bfloat16),
        "double": odd.double() / 3,
        "whole": torch.arange(6).reshape(2, 3),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "none": torch.empty(0, 3),
        "one": torch.tensor(7.0),
    }
    values = {"text": "naïve \u2028", "share": 0.1 + 0.2, "large": 2**63 + 1, "no": None, "list": [1, [2.5]]}
    TrainerState(123, values, tensors).write(tmp_path)
    state = TrainerState.read(tmp_path)
    assert (state.step, state.values) == (123, values)
    assert state.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        found = state.tensors[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert bits(found.view(-1).view(torch.uint8)) == bits(tensor.contiguous().view(-1).view(torch.uint8)), name


def test_state_goes_by_name_not_by_place(tmp_path: Path) -> None:
    model, state = saved(fused, tmp_path)
    parameters = list(model.named_parameters())[::-1]
    groups = [{"params": [parameter for _, parameter in parameters[:2]]}, {"params": [p for _, p in parameters[2:]]}]
    optimizer = AdamW(groups, fused=True)
    restore(state, [optimizer], model)
    for name, parameter in parameters:
        assert torch.equal(optimizer.state[parameter]["exp_avg"], state.tensors[f"{name}/exp_avg"])


def test_names_of_a_compiled_or_wrapped_model_are_the_plain_ones() -> None:
    model, optimizers = trained(fused, steps=1)
    plain_names = optimizer_tensors(optimizers, model)[0].keys()
    wrapped = nn.Module()
    wrapped.module = nn.Module()
    wrapped.module._orig_mod = model
    assert optimizer_tensors(optimizers, wrapped)[0].keys() == plain_names
    assert "hidden.weight/exp_avg" in plain_names


def test_hyperparameters_come_from_the_settings_of_now(tmp_path: Path) -> None:
    model, state = saved(fused, tmp_path)
    optimizer = AdamW(model.parameters(), lr=0.5, weight_decay=0.25, fused=True)
    optimizer.param_groups[0]["peak_lr"] = 0.75
    restore(state, [optimizer], model)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["peak_lr"]) == (0.5, 0.25, 0.75)


def test_plain_numbers_an_optimizer_keeps_come_back(tmp_path: Path) -> None:
    model, optimizers = trained(momentum)
    kept = {"count": 3, "share": 0.1, "warm": True}
    for state in optimizers[0].state.values():
        state.update(kept)
    tensors, values = optimizer_tensors(optimizers, model)
    TrainerState(4, {"optimizers": values}, tensors).write(tmp_path)
    others = momentum(model)
    restore(TrainerState.read(tmp_path), others, model)
    for parameter in model.parameters():
        assert {key: others[0].state[parameter][key] for key in kept} == kept


def test_what_is_restored_is_a_copy(tmp_path: Path) -> None:
    model, state = saved(fused, tmp_path)
    optimizers = fused(model)
    before = {name: bits(tensor) for name, tensor in state.tensors.items()}
    restore(state, optimizers, model)
    train(model, optimizers, range(4, 6))
    assert {name: bits(tensor) for name, tensor in state.tensors.items()} == before


@pytest.mark.parametrize("build", [fused, muon])
def test_before_the_first_step_there_is_nothing_to_restore(build: Build, tmp_path: Path) -> None:
    model = Net()
    tensors, values = optimizer_tensors(build(model), model)
    assert tensors == {}
    TrainerState(0, {"optimizers": values}).write(tmp_path)
    optimizers = build(model)
    restore(TrainerState.read(tmp_path), optimizers, model)
    train(model, optimizers, range(1))


def test_frozen_weights_need_no_state(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Net()
    model.table.requires_grad_(False)
    optimizers = fused(model)
    train(model, optimizers, range(2))
    tensors, values = optimizer_tensors(optimizers, model)
    assert not any(name.startswith("table.") for name in tensors)
    restore_optimizers(fused(model), model, tensors, values)


# -- what does not fit ------------------------------------------------------------------------------------


def refusal(state: TrainerState, optimizers: list[Optimizer], model: nn.Module) -> str:
    """What the error says; that nothing was changed is seen to."""
    train(model, optimizers, range(1))
    before = frozen_look(optimizers, model)
    with pytest.raises(CheckpointError) as caught:
        restore(state, optimizers, model)
    assert frozen_look(optimizers, model) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_state_of_a_larger_model_is_refused_with_the_shapes(tmp_path: Path) -> None:
    _, state = saved(fused, tmp_path)
    model = Net(width=16)
    assert "table.weight/exp_avg is [11, 8] there, [11, 16] here" in refusal(state, fused(model), model)


def test_the_state_of_other_layers_is_refused_with_their_names(tmp_path: Path) -> None:
    _, state = saved(fused, tmp_path)

    class Other(Net):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 11, bias=False)

    model = Other()
    assert "another model: it has optimizer state for 'head.bias'" in refusal(state, fused(model), model)
    optimizers = fused(model)
    train(model, optimizers, range(1))
    tensors, values = optimizer_tensors(optimizers, model)
    larger = Net()
    smaller_state = TrainerState(1, {"optimizers": values}, tensors)
    assert "another model: it has no optimizer state for 'head.bias'" in refusal(smaller_state, fused(larger), larger)


def test_many_names_are_cut_short(tmp_path: Path) -> None:
    _, state = saved(fused, tmp_path)
    model = nn.Sequential(nn.Embedding(11, 11))
    message = refusal(state, fused(model), model)
    assert message.endswith("for 'head.bias', 'head.weight', 'hidden.bias' and 2 more")


@pytest.mark.parametrize(("then", "now"), [(fused, muon), (muon, fused), (fused, momentum)])
def test_the_state_of_another_optimizer_is_refused(then: Build, now: Build, tmp_path: Path) -> None:
    model, state = saved(then, tmp_path)
    optimizers = now(model)
    kind = {fused: "AdamW", momentum: "SGD"}
    message = refusal(state, optimizers, model)
    if muon in (then, now):
        assert "'hidden.weight' was trained by" in message
    assert f"by {kind.get(then, 'Muon')} in the checkpoint, by {kind.get(now, 'Muon')} here" in message
    assert "optim.optimizer" in message


@pytest.mark.parametrize("build", [fused, muon])
def test_any_missing_tensor_is_refused_by_name(build: Build, tmp_path: Path) -> None:
    model, state = saved(build, tmp_path)
    for name in state.tensors:
        rest = {other: tensor for other, tensor in state.tensors.items() if other != name}
        message = refusal(TrainerState(4, state.values, rest), build(model), model)
        assert repr(name) in message or repr(name.rpartition("/")[0]) in message


def test_a_tensor_of_no_optimizer_is_refused_by_name(tmp_path: Path) -> None:
    model, state = saved(fused, tmp_path)
    state.tensors["spare.weight/exp_avg"] = torch.ones(3)
    assert "'spare.weight/exp_avg'" in refusal(state, fused(model), model)


def test_state_that_is_no_number_is_refused_when_saved() -> None:
    model, optimizers = trained(fused, steps=1)
    optimizers[0].state[model.head.bias]["note"] = "text"
    with pytest.raises(CheckpointError, match="AdamW keeps a str as 'note'"):
        optimizer_tensors(optimizers, model)


@pytest.mark.parametrize("name", [TENSORS, VALUES])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"step": "x", "values": {}}', b"\x80\x04N."])
def test_files_that_make_no_sense_are_an_error(name: str, content: bytes, tmp_path: Path) -> None:
    TrainerState(1, {}, {"w": torch.ones(2)}).write(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        TrainerState.read(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        TrainerState.read(tmp_path)

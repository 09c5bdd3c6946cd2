"""What a run needs beside the weights to go on bit for bit, as named tensors and JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from storylm.config.errors import CheckpointError
from storylm.training.distributed import Ranks
from storylm.training.parallel import gathered, sharded_like

TENSORS, VALUES = "trainer_state.safetensors", "trainer_state.json"


@dataclass
class TrainerState:
    """A run after `step` updates, weights aside. `values` is JSON; `tensors` holds optimizer state by name."""

    step: int
    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `trainer_state.safetensors` and `trainer_state.json` into `folder`."""
        save_file({name: tensor.detach().contiguous() for name, tensor in self.tensors.items()}, folder / TENSORS)
        text = json.dumps({"step": self.step, "values": self.values}, indent=1)
        (folder / VALUES).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "TrainerState":
        """The state written to `folder`, tensors on the CPU. Raises `CheckpointError` where it makes no sense."""
        try:
            saved = json.loads((folder / VALUES).read_text(encoding="utf-8"))
            return cls(int(saved["step"]), dict(saved["values"]), load_file(folder / TENSORS))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"the trainer state in {folder} cannot be read: {error}") from error


def shared_state(state: TrainerState | None, ranks: Ranks) -> TrainerState | None:
    """Rank 0's `state` on every rank: the others may see no disk that it is on."""
    if ranks.size == 1:
        return state
    values = json.loads(ranks.share(json.dumps(state and {"step": state.step, "values": state.values}).encode()))
    tensors = ranks.share(save(state.tensors) if state else None)
    return state if state or values is None else TrainerState(**values, tensors=load(tensors))


def optimizer_tensors(optimizers: Sequence[Optimizer], model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of `optimizers` as tensors (views, not copies) and JSON, both keyed by parameter name.

    Names, not positions, so that a checkpoint survives a new order of layers or parameter groups. Of state that is
    sharded over ranks it is the whole, on every rank; all of them have to ask for it together.
    Hyperparameters are not state: they come from the configuration and the schedule.

    >>> tensors, values = optimizer_tensors([optimizer], model)                     # doctest: +SKIP
    >>> tensors["head.weight/exp_avg"].shape                                        # doctest: +SKIP
    torch.Size([64, 32])
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, int | float | bool]] = {}
    kinds: dict[str, str] = {}
    for name, parameter, optimizer in _named(optimizers, model):
        if not (state := optimizer.state.get(parameter)):
            continue  # has not been updated yet
        kinds[name] = type(optimizer).__name__
        for key, value in sorted(state.items()):  # read from a file, the order may differ from rank to rank
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = gathered(value.detach())
            elif isinstance(value, int | float):
                numbers.setdefault(name, {})[key] = value
            else:
                raise CheckpointError(f"{kinds[name]} keeps a {type(value).__name__} as {key!r}, which cannot be saved")
    return tensors, {"kinds": kinds, "numbers": numbers}


def restore_optimizers(
    optimizers: Sequence[Optimizer],
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
) -> None:
    """Give `optimizers` the state that `optimizer_tensors` took (copies). Nothing changes unless all of it fits.

    Raises `CheckpointError` where parameters, optimizers or shapes are others than when it was taken.
    """
    states: dict[str, dict[str, Any]] = {name: dict(values["numbers"].get(name, {})) for name in values["kinds"]}
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition("/")
        if name not in states:
            raise CheckpointError(
                f"the checkpoint has a tensor {full_name!r} but no optimizer for {name!r}: it is damaged"
            )
        states[name][key] = tensor.clone()
    parameters = {name: (parameter, optimizer) for name, parameter, optimizer in _named(optimizers, model)}
    if unknown := sorted(states.keys() - parameters.keys()):
        raise CheckpointError(f"the checkpoint is of another model: it has optimizer state for {_some(unknown)}")
    if states and (missing := sorted(parameters.keys() - states.keys() - _frozen(model))):
        raise CheckpointError(f"the checkpoint is of another model: it has no optimizer state for {_some(missing)}")
    kinds = values["kinds"]
    keys = {kind: {key for name in states if kinds[name] == kind for key in states[name]} for kind in kinds.values()}
    for name, state in states.items():
        # An optimizer would take no state for a fresh start, and stumble over half a state only at its next step.
        lacking = [f"{name}/{key}" for key in sorted(keys[kinds[name]] - state.keys())] or ([] if state else [name])
        if lacking:
            raise CheckpointError(f"the checkpoint lacks optimizer state for {_some(lacking)}: it is damaged")
        parameter, optimizer = parameters[name]
        _check(name, state, parameter, values["kinds"][name], optimizer)
        for key, value in state.items():
            if isinstance(value, Tensor) and value.ndim:
                state[key] = sharded_like(value, parameter)
    for optimizer in optimizers:
        _load(optimizer, {id(parameters[name][0]): state for name, state in states.items()})


def _load(optimizer: Optimizer, states: dict[int, dict[str, Any]]) -> None:
    # load_state_dict knows where each optimizer wants what: AdamW's step count, say, lives on the CPU
    # unless fused or capturable.
    own = optimizer.state_dict()
    in_order = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    indices = [index for group in own["param_groups"] for index in group["params"]]
    state = {index: states[key] for index, key in zip(indices, in_order, strict=True) if key in states}
    optimizer.load_state_dict({"state": state, "param_groups": own["param_groups"]})


def _check(name: str, state: Mapping[str, Any], parameter: Tensor, saved_kind: str, optimizer: Optimizer) -> None:
    kind = type(optimizer).__name__
    if saved_kind != kind:
        raise CheckpointError(
            f"{name!r} was trained by {saved_kind} in the checkpoint, by {kind} here: set optim.optimizer back"
        )
    # Most keep state in the shape of the weights; one that does not says so.
    shape_of = getattr(optimizer, "state_shape", lambda key, parameter: parameter.shape)
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim and value.shape != (expected := shape_of(key, parameter)):
            raise CheckpointError(
                f"the checkpoint is of another model: {name}/{key} is {list(value.shape)} there, {list(expected)} here"
            )


def _named(optimizers: Sequence[Optimizer], model: nn.Module) -> Iterator[tuple[str, Tensor, Optimizer]]:
    # A compiled or wrapped model prefixes its names; the plain ones are what a checkpoint keeps.
    names = {
        parameter: name.replace("_orig_mod.", "").removeprefix("module.")
        for name, parameter in model.named_parameters()
    }
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield names[parameter], parameter, optimizer


def _frozen(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

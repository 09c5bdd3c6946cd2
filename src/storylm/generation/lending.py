"""Readers that are used again: weights are packed, threads tried out and graphs recorded once, not for each call."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

from storylm.generation.reading import Reader, build_reader
from storylm.model.transformer import Transformer


class _Kept(NamedTuple):
    precision: str
    weights: Any
    reader: Reader


_kept: WeakKeyDictionary[Transformer, _Kept] = WeakKeyDictionary()


@contextmanager
def lent_reader(model: Transformer, slots: int, capacity: int, precision: str = "fp32") -> Iterator[Reader]:
    """A reader by `build_reader`, with as many slots and as much room or more, to be given back.

    The last one of a model is kept as long as the model is there, and lent again unless its weights have changed since.
    Nobody else has it meanwhile. A model in training mode is about to change: of such ones none is kept.
    """
    if model.training:
        yield build_reader(model, slots, capacity, precision)
        return
    weights, kept = _weights(model), _kept.pop(model, None)
    if kept and kept[:2] == (precision, weights) and kept.reader.slots >= slots and kept.reader.capacity >= capacity:
        reader = kept.reader
    else:
        kept = None  # its memory is free before another is built
        room = min(-(-capacity // _ROOM) * _ROOM, model.config.context)
        reader = build_reader(model, slots, max(capacity, room), precision)
    yield reader
    _kept[model] = _Kept(precision, weights, reader)  # not one with which something went wrong


_ROOM = 128  # tokens: a prompt that is a little longer is no reason for another reader


def _weights(model: Transformer) -> tuple:
    """What tells weights from others: where they are, how often torch saw them change, and their sums.

    The sums are for changes by way of `.data`, which torch does not count.
    """
    tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
    sums = torch.stack([tensor.sum(dtype=torch.float32) for tensor in tensors]).tolist()
    changes = [0 if tensor.is_inference() else tensor._version for tensor in tensors]
    return torch.get_num_threads(), [tensor.data_ptr() for tensor in tensors], changes, sums

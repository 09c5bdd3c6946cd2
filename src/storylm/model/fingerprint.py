"""What tells a model from every other one, wherever its files lie and whatever they are called."""

import hashlib

from storylm.model.transformer import Transformer

BEGINNING = {
    "dropout",
    "init_std",
    "init_outputs",
}  # of no matter once a model is trained, and no file has to keep them


def fingerprint(model: Transformer) -> str:
    """SHA-256, as hex, of what decides a model's predictions: its configuration and every weight.

    >>> fingerprint(load("runs/first")[0]) == fingerprint(load("copies/first")[0])  # doctest: +SKIP
    True
    """
    found = hashlib.sha256(model.config.model_dump_json(exclude=BEGINNING).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()

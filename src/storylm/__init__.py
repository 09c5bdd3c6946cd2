"""storylm: train, judge and tell stories with small language models.

>>> import storylm
>>> model, tokenizer = storylm.load("runs/story-5m")                          # doctest: +SKIP
>>> storylm.generate(model, tokenizer, ["Once upon a time"], seed=1)          # doctest: +SKIP
>>> storylm.evaluate(model, tokenizer, stories).bits_per_byte                 # doctest: +SKIP

Names are imported on first use, so that `storylm --help` needs neither torch nor seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storylm.config.load import preset
    from storylm.config.model import ModelConfig
    from storylm.config.schema import RunConfig
    from storylm.evaluation.likelihood import Likelihood, evaluate
    from storylm.generation.engine import generate
    from storylm.model.store import load, save
    from storylm.model.transformer import Transformer
    from storylm.text.tokenizer import Tokenizer
    from storylm.training.run import RunResult, train

__version__ = "0.1.0"

_HOMES = {
    "preset": "storylm.config.load",
    "ModelConfig": "storylm.config.model",
    "RunConfig": "storylm.config.schema",
    "Likelihood": "storylm.evaluation.likelihood",
    "evaluate": "storylm.evaluation.likelihood",
    "generate": "storylm.generation.engine",
    "load": "storylm.model.store",
    "save": "storylm.model.store",
    "Transformer": "storylm.model.transformer",
    "Tokenizer": "storylm.text.tokenizer",
    "RunResult": "storylm.training.run",
    "train": "storylm.training.run",
}

__all__ = [
    "Likelihood",
    "ModelConfig",
    "RunConfig",
    "RunResult",
    "Tokenizer",
    "Transformer",
    "evaluate",
    "generate",
    "load",
    "preset",
    "save",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'storylm' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""The model and the optimizer that every contender of a turn has, as storylm's settings describe them."""

import numpy as np

from storylm.config.load import apply_overrides, preset
from storylm.config.model import ModelConfig
from storylm.config.schema import RunConfig
from storylm.data.shards import token_dtype

from .turn import Turn


def config_of(turn: Turn) -> RunConfig:
    """The preset with the turn's changes."""
    return apply_overrides(preset(turn.preset), turn.overrides)


def read_tokens(turn: Turn, config: RunConfig) -> np.ndarray:
    """The turn's token ids, mapped into memory."""
    return np.memmap(turn.tokens, dtype=token_dtype(config.model.vocab_size), mode="r")


def gpt2_feedforward(model: ModelConfig) -> int:
    """The width of a feed-forward layer of two matrices that has the weights, and so the work, of the model's own."""
    return model.ff_width * 3 // 2 if model.gated else model.ff_width


def padded_vocabulary(size: int) -> int:
    """As nanoGPT's users have it: GPT-2's 50,257 made 50,304, which multiplies faster; even sizes as they are."""
    return size if size % 8 == 0 else -(-size // 64) * 64

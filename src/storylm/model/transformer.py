"""The model, top to bottom: a decoder-only transformer described by `ModelConfig`."""

# B batch, T tokens, V vocabulary, D width

from functools import partial

import torch
from torch import Tensor, nn

from storylm.config.errors import UsageError
from storylm.config.model import ModelConfig
from storylm.model.attention import Attention, KeyValueCache
from storylm.model.dropout import draw_seeds, dropout
from storylm.model.feedforward import FeedForward
from storylm.model.norms import build_norm
from storylm.model.positions import POSITIONS, Angles
from storylm.model.sight import Sight, build_sights, is_flexible

Seeds = tuple[Tensor | None, Tensor | None, Tensor | None]
NO_SEEDS: Seeds = (None, None, None)


class Block(nn.Module):
    """Attention, then feed-forward, each added to the stream that passes by (pre-norm)."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.attention_norm = build_norm(config.norm, config.width, config.norm_eps)
        self.attention = Attention(config, layer)
        self.ff_norm = build_norm(config.norm, config.width, config.norm_eps)
        self.ff = FeedForward(config)
        self.dropout = config.dropout

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        angles: Angles | None,
        sight: Sight,
        cache: KeyValueCache | None = None,
        seeds: Seeds = NO_SEEDS,
    ) -> Tensor:
        rate = self.dropout if self.training else 0.0
        h_BTD = self.attention(self.attention_norm(x_BTD), positions_BT, angles, sight, cache, seeds[0])
        x_BTD = x_BTD + dropout(h_BTD, rate, seeds[1])
        return x_BTD + dropout(self.ff(self.ff_norm(x_BTD)), rate, seeds[2])


class Transformer(nn.Module):
    """Tokens in, scores for the next token out.

    >>> model = Transformer(ModelConfig(vocab_size=64, context=16, layers=2, width=32, heads=2))
    >>> model(torch.zeros(3, 5, dtype=torch.long)).shape
    torch.Size([3, 5, 64])
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = POSITIONS[config.positions](config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = build_norm(config.norm, config.width, config.norm_eps)
        self.head = None if config.tied else nn.Linear(config.width, config.vocab_size, bias=False)
        self.compiled = False

    @property
    def head_weight(self) -> Tensor:
        """The output projection [V, D]: the embedding table itself where tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def hidden(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """The stream after the last norm, [B, T, D]: what the head turns into scores.

        `positions_BT` counts from 0 in each row unless given (with a cache, always give it);
        `documents_BT` numbers the stories of a row, which then do not see each other.
        """
        length = tokens_BT.shape[1]
        if length > self.config.context:
            raise UsageError(
                f"a sequence of {length} tokens does not fit the model's context of {self.config.context}: shorten it"
            )
        if positions_BT is None:
            positions_BT = torch.arange(length, device=tokens_BT.device)[None]
        keys = None if cache is None else partial(cache.key_positions, positions_BT)
        rate = self.config.dropout if self.training else 0.0
        flexible = self.compiled and self.training and tokens_BT.is_cuda and is_flexible(self.config.head_dim, rate)
        sights = build_sights(self.config.windows, positions_BT, documents_BT, keys, len(tokens_BT), flexible)
        angles = self.positions.angles(positions_BT)
        seed, *seeds = draw_seeds(rate, 1 + 3 * len(self.blocks), tokens_BT.device)
        x_BTD = dropout(self.positions.add(self.embedding(tokens_BT), positions_BT), rate, seed)
        for layer, block in enumerate(self.blocks):
            own_seeds = tuple(seeds[3 * layer : 3 * layer + 3])
            x_BTD = block(x_BTD, positions_BT, angles, sights[self.config.window(layer)], cache, own_seeds)
        return self.norm(x_BTD)

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Scores for the token after each one, [B, T, V]. Training never calls this: see `model.loss`."""
        return nn.functional.linear(self.hidden(tokens_BT, positions_BT, documents_BT, cache), self.head_weight)

    def compile_blocks(self) -> None:
        """Compile what is called most, for training. In place, so that names in checkpoints stay plain."""
        # Rows of several widths and windows of several sizes are a compilation each. Beyond dynamo's default of 8
        # the rest would run uncompiled: which, depends on the order they come in, and after a resume it is another.
        torch._dynamo.config.recompile_limit = 64
        for block in self.blocks:  # all blocks share one compiled function: deep ones compile as fast as shallow ones
            block.compile(dynamic=False)
        self.compiled = True

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> "Transformer":
        """Draw fresh weights: normal(0, init_std) for matrices, zeros for biases, ones for norms; returns self."""
        config = self.config
        output_std = {
            "same": config.init_std,
            "scaled": config.init_std / (2 * config.layers) ** 0.5,
            "zero": 0.0,
        }[config.init_outputs]
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.ones_(parameter)
            elif name.endswith(("attention.out.weight", "ff.down.weight")):
                parameter.normal_(0.0, output_std, generator=generator) if output_std else parameter.zero_()
            else:
                parameter.normal_(0.0, config.init_std, generator=generator)
        return self

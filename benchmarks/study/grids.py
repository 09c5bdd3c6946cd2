"""The runs of the scaling study: three grids over the built-in stories and the real ones.

All are `story-1m` with its rates, in rows of 512 tokens, 8 a step; only what a grid varies is changed.
"""

from dataclasses import dataclass

ROW, ROWS = 512, 8
HEAD = 32
SOURCES = ("grammar", "real")
VOCABULARY = {"grammar": 1024, "real": 4096}
WIDTHS = (32, 64, 128, 192)
TOKENS = {"grammar": (1_000_000, 2_000_000, 4_000_000), "real": (500_000, 1_000_000, 2_000_000)}  # never seen twice
# Layers and width of 0.75M to 0.85M parameters in blocks, all with 1,024 tokens: of the table a narrow model has less.
SHAPES, SHAPE_VOCABULARY = ((1, 256), (2, 192), (4, 128), (8, 96), (16, 64)), 1024
SHAPE_TOKENS = 2_000_000
VOCABULARIES, VOCABULARY_WIDTHS = (512, 1024, 2048, 4096, 8192), (64, 128, 192)
VOCABULARY_BYTES = 7_500_000  # read by each, in as many tokens as its vocabulary makes of them


@dataclass(frozen=True)
class Point:
    """One run. `budget` is in tokens, or in bytes of text where the grid is that of vocabularies."""

    grid: str
    source: str
    layers: int
    width: int
    vocab_size: int
    budget: int

    @property
    def name(self) -> str:
        """What its result is kept under."""
        return f"{self.grid}/{self.source}/{self.layers}x{self.width}/{self.vocab_size}/{self.budget}"

    def overrides(self, steps: int) -> list[str]:
        """Of the preset `story-1m`."""
        return [
            f"model.vocab_size={self.vocab_size}",
            f"model.layers={self.layers}",
            f"model.width={self.width}",
            f"model.heads={self.width // HEAD}",
            f"model.ff_width={-(-5 * self.width // 2 // 16) * 16}",
            f"data.context={ROW}",
            f"train.batch_size={ROWS}",
            f"train.steps={steps}",
        ]


def points() -> list[Point]:
    """Every run of the study. One is in two grids, and trained for each: 4 x 128 on the built-in stories."""
    found = []
    for source in SOURCES:
        for width in WIDTHS:
            found += [Point("size", source, 4, width, VOCABULARY[source], tokens) for tokens in TOKENS[source]]
        found += [Point("shape", source, layers, width, SHAPE_VOCABULARY, SHAPE_TOKENS) for layers, width in SHAPES]
    for width in VOCABULARY_WIDTHS:
        found += [Point("vocabulary", "real", 4, width, size, VOCABULARY_BYTES) for size in VOCABULARIES]
    return found

"""The table of docs/reproduce.md: an epoch of TinyStories with every published preset, measured or calculated."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from measured import RESULTS, machine_of, read

from storylm.config.model import ModelConfig
from storylm.config.schema import RunConfig

# Of what a card's data sheet promises, what training of small models comes to where the code is good. By their tokens
# and minutes published runs come to 2 % (CS336's goal, H100), 11 % (36M, GH200), 15 % (nano-22m, RTX 3090) and some 40
# (word-20m, RTX 3060 Ti). Of bandwidth, half.
SHARES_OF_FLOPS, SHARE_OF_BANDWIDTH = (0.12, 0.3), 0.5
# Estimated bytes that one token moves, forward and backward: in one layer for each feature (what goes in and out of its
# matrices, norms and attention), and for each logit (written and read twice in 16 bits, as scores and as gradients).
BYTES_PER_FEATURE, BYTES_PER_LOGIT = 700, 8


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet: dense products in bf16 with sums in fp32 (FLOP/s), and bytes a second from memory."""

    name: str
    flops: float
    bandwidth: float


CARDS = (Card("RTX 3060", 25.6e12, 360e9), Card("RTX 4090", 165e12, 1008e9), Card("H200", 989e12, 4.8e12))

# What was published, in bits per byte, and what is to be known about it.
PUBLISHED = {
    "xs-3m": "no figure; the paper's width of 64, with 12 layers: 0.73",
    "gpt2-33m": "none that counts: its tokens saw only what came after them",
    "word-20m": "0.43 to 0.48 with padding taken out, estimated; 19 epochs, 16 h on an RTX 3060 Ti",
    "nano-22m": "0.68; 459M tokens, 98 min on an RTX 3090",
    "mistral-40m": "none that counts: padding was in the loss; 16 h on an RTX 2070",
    "paper-1m": "with 12 layers 0.73",
    "paper-8m": "0.50",
    "paper-28m": "0.44",
    "paper-33m": "with 8 layers 0.42",
    "llama2c-260k": "0.87 to 0.93; measured here 0.928, or 0.914 with stories cut at its context; 6.6 billion tokens",
    "llama2c-15m": "0.41; its validation stories are not deduplicated",
    "llama2c-42m": "0.33, likewise",
    "llama2c-110m": "0.29 to 0.34, likewise; 26 billion tokens",
    "cs336-17m": "the course's goal 0.51: 328M tokens, 30 to 40 min on an H100; a student's 0.49",
}


def seconds_per_token(card: Card, flops: float, model: ModelConfig) -> tuple[float, float]:
    """At best and at worst: the slower of arithmetic and memory."""
    traffic = BYTES_PER_FEATURE * model.layers * model.width + BYTES_PER_LOGIT * model.vocab_size
    memory = traffic / (SHARE_OF_BANDWIDTH * card.bandwidth)
    low, high = SHARES_OF_FLOPS
    return max(flops / (high * card.flops), memory), max(flops / (low * card.flops), memory)


def duration(seconds: float) -> str:
    """
    >>> duration(90), duration(4000), duration(100_000), duration(900_000)
    ('90 s', '67 min', '28 h', '10 days')
    """
    for size, unit, most in ((1, "s", 120), (60, "min", 120), (3600, "h", 72)):
        if seconds / size < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def passes(config: RunConfig, epoch_tokens: int) -> float:
    """Over the stories, in all that the preset would train for."""
    train = config.train
    if train.steps is None:
        return train.epochs or 1.0
    return train.steps * train.batch_size * train.accumulation * config.row_length / epoch_tokens


def epochs() -> str:
    """A row for each published preset; a file of results is of one machine, which has a column."""
    from reproduce import published

    from storylm.config.load import preset
    from storylm.model.count import flops_per_token
    from storylm.training.corpus_size import epoch_tokens, tokens_per_row

    machines = [
        read(path.stem)["presets"] for path in sorted(RESULTS.glob("reproduce*.json"), key=lambda path: path.stem)
    ]
    head = ["preset", "tokens an epoch", "epochs", *map(_column, machines), *(card.name for card in CARDS), "published"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 2) + "|---|"]
    for name in published():
        config = preset(name)
        tokens, flops = epoch_tokens(config), flops_per_token(config.model, round(tokens_per_row(config)))
        times = [_speed(rows.get(name, {}), tokens) for rows in machines]
        for card in CARDS:
            best, worst = (duration(tokens * each) for each in seconds_per_token(card, flops, config.model))
            times.append(best if best == worst else f"{best} to {worst}")
        whole = f"{passes(config, tokens):.2g}"
        cells = [f"`{name}`", f"{tokens / 1e6:,.0f}M", whole, *times, PUBLISHED.get(name, "none in bits per byte")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _column(rows: dict[str, Any]) -> str:
    """What the column of a machine is called."""
    measured = [row for row in rows.values() if "machine" in row]
    precisions = " or ".join(sorted({row["precision"] for row in measured}))
    return f"{machine_of(measured[0]['machine'])}, in {precisions}: tokens/s, time of an epoch"


def _speed(row: dict[str, Any], epoch_tokens: int) -> str:
    """Tokens a second and the time of an epoch; nothing where it was not measured."""
    if "failed" in row:
        return f"failed: {row['failed'].replace('|', '/')}"
    if not row:
        return ""
    changed = "".join(f", {change}" for change in row.get("changes", []))
    return f"{row['tokens_per_second']:,.0f}, {duration(epoch_tokens / row['tokens_per_second'])}{changed}"


TABLES: dict[str, Callable[[], Any]] = {"epochs": epochs}

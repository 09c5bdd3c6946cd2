"""What several GPUs have to tell each other in a step, and how much of it computing hides. The tables of scaling.md.

On paper: line rates and formulas, nothing measured but what `GPU` says. docs/scaling.md explains them.
"""

import math
from dataclasses import dataclass

from storylm.config.load import preset, preset_names
from storylm.config.model import ModelConfig
from storylm.config.schema import RunConfig
from storylm.model.count import flops_per_token, parameters

GPU = 0.4 * 790e12  # FLOP/s while it computes: 40 % of what an H200 multiplies in bf16; smaller models reach less
FULL = 0.8  # of a line's rate is what large messages get
GPUS_IN_NODE = 8
LATENCY = 10e-6  # seconds of one hop; a tree over N GPUs has 2 log2 N
BUCKET = 25 * 2**20  # DDP sends gradients in pieces of so many bytes
BACKWARD = 2 / 3  # of a step's arithmetic
TOKENS = 32_768  # a GPU and step, in the table of efficiencies
EXAMPLES = ("story-5m", "story-33m", "xs-3m", "gpt2-33m", "nano-22m", "mistral-40m", "llama2c-110m")  # of that table


@dataclass(frozen=True)
class Link:
    """A network by what one node sends, bytes/s, while it receives as much."""

    name: str
    bandwidth: float


NVLINK = Link("NVLink", 450e9)  # of each GPU; but a ring leaves and enters a node once, whatever is in it
LINKS = (
    NVLINK,
    Link("InfiniBand 8 x 400 Gb/s", 400e9),
    Link("Ethernet 100 Gb/s", 12.5e9),
    Link("Ethernet 10 Gb/s", 1.25e9),
)


def tables(config: ModelConfig) -> int:
    """Weights whose gradient is complete only at the very end of the backward pass: the embeddings."""
    positions = config.context if config.positions == "learned" else 0
    return (config.vocab_size + positions) * config.width


def ddp_bytes(weights: int, gpus: int) -> float:
    """What each GPU sends (and receives) in a step to add up fp32 gradients in a ring: 2(N-1)/N of them.

    >>> ddp_bytes(1_000_000, 2), ddp_bytes(1_000_000, 8)
    (4000000.0, 7000000.0)
    """
    return 2 * (gpus - 1) / gpus * 4 * weights


def fsdp_bytes(config: ModelConfig, gpus: int, passes: int = 1) -> float:
    """The same for FSDP2, which gathers fp32 weights and scatters their gradients, with so many `passes` a step.

    Blocks are gathered for the forward pass and again for the backward pass, the rest (embeddings, head, last norm)
    stays from the one to the other; gradients are scattered once a step, after the last pass.
    """
    whole = parameters(config)
    rest = parameters(config.model_copy(update={"layers": 0}))
    gathered = passes * (2 * (whole - rest) + rest)
    return (gpus - 1) / gpus * 4 * (gathered + whole)


def seconds(weights: int, gpus: int, link: Link) -> float:
    """Adding up the gradients of so many weights over `gpus`, in nodes of 8 that are joined by `link`."""
    slowest = NVLINK.bandwidth if gpus <= GPUS_IN_NODE else min(NVLINK.bandwidth, link.bandwidth)
    buckets = math.ceil(4 * weights / BUCKET)
    return ddp_bytes(weights, gpus) / (FULL * slowest) + buckets * LATENCY * 2 * math.log2(gpus)


def efficiency(config: ModelConfig, tokens: float, gpus: int, link: Link, context: int | None = None) -> float:
    """The share of the time in which GPUs compute, with `tokens` on each in a step, in one pass.

    Gradients travel while the backward pass still runs, but those of the embeddings are only known at its end.
    """
    computing = tokens * flops_per_token(config, context) / GPU
    travelling = seconds(parameters(config), gpus, link)
    exposed = max(travelling - BACKWARD * computing, seconds(tables(config), gpus, link))
    return computing / (computing + exposed)


def hidden_from(config: ModelConfig, link: Link, share: float = 0.9, context: int | None = None) -> int:
    """From how many tokens a GPU and step on 16 GPUs are computing for `share` of the time, rounded up to 1,000."""
    gpus = 2 * GPUS_IN_NODE if link is not NVLINK else GPUS_IN_NODE
    a_token = flops_per_token(config, context) / GPU
    waiting = (1 - share) / share
    all_of_it, last = seconds(parameters(config), gpus, link), seconds(tables(config), gpus, link)
    tokens = max(all_of_it / (a_token * (BACKWARD + waiting)), last / (a_token * waiting))
    return math.ceil(tokens / 1000) * 1000


def volumes() -> str:
    """Of every preset: what a step moves, and what it computes meanwhile."""
    rows = [
        "| preset | parameters | embeddings | MB sent, DDP: N = 2 / 8 / 64 | FSDP2 | MFLOP a token | tokens a step |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in preset_names():
        run = preset(name)
        weights = parameters(run.model)
        ddp = " / ".join(f"{ddp_bytes(weights, gpus) / 1e6:,.0f}" for gpus in (2, 8, 64))
        fsdp = " / ".join(f"{fsdp_bytes(run.model, gpus) / 1e6:,.0f}" for gpus in (2, 8, 64))
        step = run.train.batch_size * run.train.accumulation * run.row_length
        arithmetic = flops_per_token(run.model, run.row_length) / 1e6
        share = f"{tables(run.model) / weights:.0%}"
        rows.append(f"| `{name}` | {weights:,} | {share} | {ddp} | {fsdp} | {arithmetic:,.0f} | {step:,} |")
    return "\n".join(rows)


def batches() -> str:
    """Of every preset: the tokens a GPU and step from which 90 % of the time is computing; and what its step feeds."""
    rows = [
        f"| preset | one node, NVLink | {' | '.join(link.name for link in LINKS[1:])} | GPUs for a preset's step |",
        "|---|" + "--:|" * (len(LINKS) + 1),
    ]
    for name in preset_names():
        run = preset(name)
        cells = [f"{hidden_from(run.model, link, context=run.row_length):,}" for link in LINKS]
        rows.append(f"| `{name}` | {' | '.join(cells)} | {fed(run)} |")
    return "\n".join(rows)


def fed(run: RunConfig, share: float = 0.9) -> int:
    """How many GPUs (a power of two up to 64, InfiniBand) compute for `share` of the time on one step of the run."""
    step = run.train.batch_size * run.train.accumulation * run.row_length
    sizes = [
        gpus
        for gpus in (2, 4, 8, 16, 32, 64)
        if efficiency(run.model, step / gpus, gpus, LINKS[1], run.row_length) >= share
    ]
    return max(sizes, default=1)


def efficiencies() -> str:
    """Predicted weak scaling, N from 2 to 64, over a fast network and over a slow one."""
    sizes = (2, 4, 8, 16, 32, 64)
    rows = [f"| preset | network | {' | '.join(map(str, sizes))} |", "|---|---|" + "--:|" * len(sizes)]
    for name in EXAMPLES:
        run = preset(name)
        for link in LINKS[1:3]:
            shares = (efficiency(run.model, TOKENS, size, link, run.row_length) for size in sizes)
            rows.append(f"| `{name}` | {link.name} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    return "\n".join(rows)


TABLES = {"volumes": volumes, "batches": batches, "efficiencies": efficiencies}

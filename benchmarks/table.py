"""The results of benchmarks/train.py as a Markdown table. Needs nothing but the JSON."""

from typing import Any

HEAD = (
    "model",
    "contender",
    "tokens/s",
    "min to max",
    "times plain",
    "of matmul peak",
    "memory",
    "start",
    "ahead after",
)
FLAGS = {"fp32": "fp32", "bf16": "bf16", "eager": "not compiled", "compile": "compiled", "liger": "Liger kernels"}
KINDS = {
    "storylm": "**storylm**",
    "plain": "plain loop",
    "nanogpt": "plain loop, nanoGPT's model",
    "trainer": "transformers Trainer",
}


def table(results: dict[str, Any]) -> str:
    """A table of every shape in `results`, the content of train-cpu.json or train-gpu.json.

    `times plain` is the ratio to the plain loop in the same round, with the spread over rounds; `start` what comes
    before the first step, with a cold cache and with a warm one; `ahead after` how many steps make up for that.
    """
    rows = [
        cells(f"`{name}`<br>{shape['batch']} x {shape['context']}" if number == 0 else "", row)
        for name, shape in results["shapes"].items()
        for number, row in enumerate(shape["contenders"])
    ]
    return "\n".join(["| " + " | ".join(HEAD) + " |", "|---|---" + "|--:" * (len(HEAD) - 2) + "|", *map(line, rows)])


def line(row: list[str]) -> str:
    return "| " + " | ".join(row) + " |"


def cells(model: str, row: dict[str, Any]) -> list[str]:
    """One contender's."""
    if "failed" in row:
        return [model, label(row["contender"]), f"failed: {row['failed'].replace('|', '/')}", *[""] * (len(HEAD) - 3)]
    speed, ratio = row["tokens_per_second"], row.get("times_baseline")
    return [
        model,
        label(row["contender"]),
        f"{speed['median']:,.0f}",
        f"{speed['min']:,.0f} to {speed['max']:,.0f}",
        "" if ratio is None else f"**{ratio['median']:.2f}** ({ratio['min']:.2f} to {ratio['max']:.2f})",
        f"{row['share_of_ceiling']:.1%}",
        f"{row['peak_bytes'] / 2**30:.1f} GB",
        _pair(row["start_seconds"], " s"),
        _pair(row["break_even_steps"], " steps") if "break_even_steps" in row else "",
    ]


def label(contender: str) -> str:
    """What a contender's name stands for.

    >>> label("trainer-bf16-compile"), label("plain"), label("storylm")
    ('transformers Trainer, bf16, compiled', 'plain loop, fp32, not compiled', '**storylm**')
    """
    kind, *flags = contender.split("-")
    if kind != "storylm":
        flags = [*([] if "bf16" in flags else ["fp32"]), *flags, *([] if "compile" in flags else ["eager"])]
    return ", ".join([KINDS[kind], *(FLAGS[flag] for flag in flags)])


def _pair(values: dict[str, float | None], unit: str) -> str:
    """Cold and warm; after a single round there is no warm one."""
    return " / ".join("never" if value is None else f"{value:,.0f}" for value in values.values()) + unit

"""Tables of what was measured, from the JSON files in benchmarks/results."""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "reliability")]


def read(name: str) -> dict[str, Any]:
    """The content of a file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def machine_of(about: dict[str, Any]) -> str:
    """Cores, processor and what it has for matrices, for people."""
    instructions = about["instructions"][0] if about["instructions"] else "no vectors of its own"
    return f"{about['cores']} cores of an {about['processor']} with {instructions}"


def training() -> str:
    """Speed of training beside its peers."""
    from table import table

    return table(read("train-cpu"))


def training_with_dropout() -> str:
    """The same, with the dropout that the presets were published with."""
    from table import table

    return table(read("train-cpu-dropout"))


def training_nanogpt() -> str:
    """The plain loop with a model of our writing, and with nanoGPT's."""
    from table import table

    return table(read("train-cpu-nanogpt"))


def plans() -> str:
    """What `storylm plan` said, and what was."""
    results = read("plan")["results"]
    lines = [
        "| run | memory planned | measured | error | time planned | measured | error |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results:
        memory, time, plan = row["memory"], row["time"], row["plan"]
        lines.append(
            f"| `{row['preset']}`, {plan['steps']} steps of {plan['tokens_per_step']:,} tokens | "
            f"{memory['planned'] / 1e9:.2f} GB | {memory['measured'] / 1e9:.2f} GB | {memory['error']:+.1%} | "
            f"{time['planned']:.1f} s | {time['measured']:.1f} s | {time['error']:+.1%} |"
        )
    return "\n".join(lines)


def weak_scaling() -> str:
    """Tokens a second of one process, and of several with as many rows each."""
    results = read("scaling")
    lines = ["| processes | tokens/s | of as many times one | of as many apart |", "|---|--:|--:|--:|"]
    names = {"one": "one", "apart": "{} apart, each its own run", "ddp": "{}, DDP", "fsdp": "{}, FSDP2"}
    for row in results["contenders"]:
        name = names[row["contender"]].format(row["processes"])
        ratios = [_ratio(row[key]) if key in row else "" for key in ("efficiency", "of_apart")]
        lines.append(f"| {name} | {row['tokens_per_second']['median']:,.0f} | {ratios[0]} | {ratios[1]} |")
    return "\n".join(lines)


def memory() -> str:
    """Peak memory of training against batch and vocabulary, and of mistral-40m at its full context."""
    results = read("memory-cpu")
    lines = ["| model | batch | vocabulary | storylm | plain loop |", "|---|--:|--:|--:|--:|"]
    for ours, theirs in zip(results["points"][::2], results["points"][1::2], strict=True):
        sizes = f"{ours['batch']} x {results['context']} | {ours['vocab_size']:,}"
        lines.append(f"| `{results['model']}` | {sizes} | {_gigabytes(ours)} | {_gigabytes(theirs)} |")
    for point in results["mistral-40m"]:
        size = f"{point['accumulation']} times {point['batch']} x {point['context']:,}"
        lines.append(f"| `mistral-40m` | {size} | 32,000 | {_gigabytes(point)} | |")
    return "\n".join(lines)


def speedrun() -> str:
    """The records: bits per byte after so many minutes."""
    lines = [
        "| minutes | bits per byte | spread | seconds | tokens | recipe | parameters | machine | commit |",
        "|--:|--:|---|--:|--:|---|--:|---|---|",
    ]
    records = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("speedrun-*.json")]
    for record in sorted(records, key=lambda record: (record["minutes"], record["bits_per_byte"]["median"])):
        figure, heats, machine = record["bits_per_byte"], record["heats"], record["machine"]
        seconds, tokens = (median(heat[key] for heat in heats) for key in ("seconds", "tokens"))
        lines.append(
            f"| {record['minutes']:g} | **{figure['median']:.3f}** | {figure['min']:.3f} to {figure['max']:.3f} | "
            f"{seconds:.0f} | {tokens / 1e6:.1f}M | `{recipe_of(record)}` | {record['parameters']:,} | "
            f"{machine['cores']} cores, {machine['cpu']} | {', '.join(map(short, record['commits']))} |"
        )
    return "\n".join(lines)


def recipe_of(record: dict[str, Any]) -> str:
    """What stands after `storylm speedrun`, data and minutes apart: the preset, and what is not as it says now."""
    from storylm.config.load import preset
    from storylm.training.run_folder import portable_settings

    usual, own = portable_settings(preset(record["recipe"])), ("data.source", "data.validation", "train.minutes")
    settings = record["settings"]
    changed = [f"{key}={value}" for key, value in settings.items() if key not in own and value != usual.get(key)]
    return " ".join([record["recipe"], *changed])


def short(name: str | None) -> str:
    """A commit in ten letters, with a plus where files had been changed since."""
    return "unknown" if name is None else name[:10] + "+" * name.endswith("-dirty")


def equal_work() -> str:
    """What each system makes of the same text in the same minutes, the best first."""
    from equal_work import OURS

    lines = [
        "| system | what it is | parameters | tokens seen | time taken by the host | bits per byte |",
        "|---|---|--:|--:|--:|--:|",
    ]
    rows = _by_figure(read("equal-work")["entries"])
    for row in rows:
        stolen = f"{row['stolen']:.0%}" if "stolen" in row else "unknown"
        sizes = f"{row['parameters']:,} | {row['tokens'] / 1e6:.1f}M | {stolen}"
        lines.append(f"| {row['name']} | {row['what']} | {sizes} | {_ours_in_bold(row)} |")
    (machine,) = {machine_of(row["machine"]) for row in rows}
    note = f"Bold: {OURS}. All on {machine}, whose host gave that much of the time to others."
    return "\n".join([*lines, "", note])


def equal_text() -> str:
    """What each system makes of the same share of the text, the best first."""
    lines = ["| system | what it is | parameters | tokens | steps | bits per byte |", "|---|---|--:|--:|--:|--:|"]
    for row in _by_figure(read("equal-text")["entries"]):
        sizes = f"{row['parameters']:,} | {row['tokens'] / 1e6:.1f}M | {row['steps']:,}"
        lines.append(f"| {row['name']} | {row['what']} | {sizes} | {_ours_in_bold(row)} |")
    return "\n".join(lines)


def equal_work_stories() -> str:
    """What each of them tells, from the same beginning with the same seed."""
    rows = _by_figure(read("equal-work")["entries"])
    return "\n\n".join(f"**{row['name']}** ({row['bits_per_byte']:.3f})\n\n{_quoted(row['story'])}" for row in rows)


def batching() -> str:
    """Batches from a file of tokens."""
    lines = ["| tokens a row | batches | million tokens/s | times get_batch |", "|--:|---|--:|--:|"]
    for row in read("batching")["results"]:
        speed, ratio = row["tokens_per_second"]["median"] / 1e6, row["times_get_batch"]["median"]
        lines.append(f"| {row['context']} | {row['contender']} | {speed:,.1f} | {ratio:.2f} |")
    return "\n".join(lines)


def telling(batch: str) -> str:
    """Tokens told a second beside peers, of so many stories at once."""
    shapes = {name: found[batch] for name, found in read("generate-cpu")["shapes"].items()}
    bases = [key for key in next(iter(shapes.values()))["contenders"][0] if key.startswith("times ")]
    heads = ["model", "contender", "tokens/s", "min to max", *map(_contender, bases), "of memory's limit"]
    lines = [f"| {' | '.join(heads)} |", "|---|---" + "|--:" * (len(heads) - 2) + "|"]
    for name, shape in shapes.items():
        for number, row in enumerate(shape["contenders"]):
            cells = [f"`{name}`" if number == 0 else "", _contender(row["contender"])]
            if "failed" in row:
                cells += [f"failed: {row['failed'].replace('|', '/')}", *[""] * (len(heads) - 3)]
            else:
                speed = row["tokens_per_second"]
                cells += [f"{speed['median']:,.0f}", f"{speed['min']:,.0f} to {speed['max']:,.0f}"]
                cells += [f"**{row[base]['median']:.2g}**" if base in row else "" for base in bases]
                cells += [f"{row['share_of_limit']:.0%}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def precision() -> str:
    """What fewer bits cost: bits per byte, and how far stories told greedily stay those of fp32."""
    lines = ["| model | numbers | bits per byte | more than fp32 | tokens until another |", "|---|---|--:|--:|---|"]
    for name, model in read("precision")["models"].items():
        exact = model["kinds"]["fp32"]["bits_per_byte"]
        for number, (kind, row) in enumerate(model["kinds"].items()):
            same = row.get("tokens_until_another", [])
            until = ", ".join("never" if tokens == row["of"] else str(tokens) for tokens in same)
            cells = [f"`{name}`" if number == 0 else "", kind.replace("_", " "), f"{row['bits_per_byte']:.4f}"]
            cells += [f"{row['bits_per_byte'] - exact:+.5f}" if kind != "fp32" else "", until]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def exports() -> str:
    """Who reads what is exported: the largest difference of logits for every format, reader and model."""
    rows = read("exports")["results"]
    models = list(dict.fromkeys(row["model"] for row in rows))
    lines = [f"| format | reader | {' | '.join(models)} |", f"|---|---|{'--:|' * len(models)}"]
    for kind in dict.fromkeys((row["format"], row["precision"]) for row in rows):
        found = {row["model"]: row for row in rows if (row["format"], row["precision"]) == kind}
        for reader in dict.fromkeys(reader for row in found.values() for reader in row.get("readers", {})):
            cells = [_difference(found[model], reader) for model in models]
            lines.append(f"| {' '.join(dict.fromkeys(kind))} | {reader} | {' | '.join(cells)} |")
    return "\n".join(lines)


def metrics() -> str:
    """What every metric of stories says of sound ones, and of damaged ones."""
    found = read("metrics")["metrics"]
    kinds = list(next(iter(found.values()))["damages"])
    lines = [f"| metric | sound | {' | '.join(kinds)} |", "|---|--:|" + "--:|" * len(kinds)]
    for name, row in found.items():
        cells = [_damaged(row["damages"][kind]) for kind in kinds]
        lines.append(f"| {name.replace('_', ' ')} | {_short(row['sound'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def equal_time() -> str:
    """Every offline figure of models trained for the same minutes, beside that of real stories or of chance."""
    models = read("equal-time")["models"]
    signs = {"higher": "up", "lower": "down", "reference": "as real"}
    lines = [f"| figure | better | {' | '.join(f'`{name}`' for name in models)} | reference |"]
    lines.append("|---|---|" + "--:|" * (len(models) + 1))
    for key in ("metrics", "learned_judge"):
        for number, first in enumerate(next(iter(models.values()))[key]):
            rows = [model[key][number] for model in models.values()]
            assert all(row["name"] == first["name"] for row in rows)
            cells = [first["name"].replace("_", " "), signs[first["direction"]]]
            cells += [_beside(row, first.get("reference")) for row in rows]
            lines.append(f"| {' | '.join(cells)} | {_short(first.get('reference'))} |")
    return "\n".join(lines)


def _beside(row: dict[str, Any], reference: float | None) -> str:
    """A figure, and in brackets its own reference where that is not the first model's."""
    from storylm.report.leaderboard import own_reference

    own = own_reference(row.get("reference"), reference)
    return _short(row["value"]) + (f" ({_short(own)})" if own is not None else "")


def learned_judge() -> str:
    """A judge that learned damage, beside what is simpler, on every kind of damage."""
    kinds = read("learned-judge")["kinds"]
    columns = ("judge", "judge, unseen", "bits per byte", "length", "both", "both, unseen")
    lines = [f"| damage | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    for kind, row in kinds.items():
        cells = [_auc_and_order(row[name]) if name in row else "" for name in columns]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _auc_and_order(row: dict[str, float | None]) -> str:
    return " / ".join("-" if row[name] is None else f"{row[name]:.2f}" for name in ("auc", "order"))


def _damaged(row: dict[str, Any]) -> str:
    """The figures of the least and the most damage: bold where all are ranked, in italics where the wrong way."""
    text = f"{_short(row['values'][0])} to {_short(row['values'][-1])}"
    return f"**{text}**" if row["ranked"] else f"*{text} (better)*" if row["wrong_way"] else text


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def reliability() -> str:
    """What was done to runs, and what became of them."""
    from report import table

    return table()


def _by_figure(entries: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted((row for row in entries.values() if "failed" not in row), key=lambda row: row["bits_per_byte"])


def _ours_in_bold(row: dict[str, Any]) -> str:
    from equal_work import OURS, kind_of

    return f"**{row['bits_per_byte']:.3f}**" if kind_of(row) == OURS else f"{row['bits_per_byte']:.3f}"


def _quoted(text: str) -> str:
    """A quotation in Markdown, whatever signs the text has."""
    safe = re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)
    return "\n".join(f"> {line}" if line.strip() else ">" for line in safe.strip().splitlines())


def _difference(row: dict[str, Any], reader: str) -> str:
    if "refused" in row:
        return "refused"
    return f"{row['readers'][reader]:.1e}" if row["readers"][reader] else "0"


def _contender(name: str) -> str:
    """A contender's name for people: "storylm-fp32" is "**storylm** fp32"."""
    who, _, numbers = name.rpartition("-")
    return f"{who.replace('storylm', '**storylm**')} {numbers}"


def _ratio(spread: dict[str, float]) -> str:
    return f"{spread['median']:.0%} ({spread['min']:.0%} to {spread['max']:.0%})"


def _gigabytes(point: dict[str, Any]) -> str:
    """What training added to an idle process, and all that the process had."""
    if "failed" in point:
        return f"failed: {point['failed']}"
    return f"{point['bytes'] / 2**30:.2f} GB ({point['process_bytes'] / 2**30:.2f})"


TABLES: dict[str, Callable[[], str]] = {
    "training": training,
    "training-with-dropout": training_with_dropout,
    "training-nanogpt": training_nanogpt,
    "plans": plans,
    "weak-scaling": weak_scaling,
    "memory": memory,
    "batching": batching,
    "speedrun": speedrun,
    "equal-work": equal_work,
    "equal-work-stories": equal_work_stories,
    "equal-text": equal_text,
    "telling-1": partial(telling, "1"),
    "telling-32": partial(telling, "32"),
    "precision": precision,
    "exports": exports,
    "metrics": metrics,
    "equal-time": equal_time,
    "learned-judge": learned_judge,
    "reliability": reliability,
}

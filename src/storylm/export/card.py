"""The model card: README.md with what the Hub wants to know at its top, as YAML, and what people want to know below.

One definition for exports, for the Hub and for the checkpoints of a run that is over.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from storylm.config.files import write_text
from storylm.config.model import ModelConfig
from storylm.export.figures import Figures
from storylm.export.provenance import Provenance, named_source
from storylm.model.count import parameters
from storylm.text.tokenizer import Tokenizer

CARD = "README.md"
WRITTEN_BY = "<!-- written by storylm -->"
"""What tells a card from one that a person wrote."""
BETTER = {"higher": "higher", "lower": "lower", "reference": "near the reference"}

_PAGE = """---
{header}---
{written_by}
# {name}

A language model of {parameters} parameters that tells short stories. It knows nothing of the world but the stories it
was trained on: it follows no instructions, and what it tells is neither checked nor true.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
prompt = tokenizer("{start}Once upon a time", add_special_tokens=False, return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, do_sample=True, temperature=0.8, max_new_tokens=200)[0]))
```

or `storylm generate {name} --prompt "Once upon a time"`. A story begins after `{start}` and ends with `{end}`.

{facts}
{more}
## Limits

A small model of simple stories, for study and play. What it tells may contradict itself, break off, and repeat what
the stories that it learned from say, their prejudices and mistakes too. It gives no advice; read its stories before
children do.

## Licence

{licence}
"""


def model_card(
    config: ModelConfig, tokenizer: Tokenizer | None, name: str, origin: Provenance, license: str | None = None
) -> str:
    """The card of a model called `name` (on the Hub, OWNER/NAME); `license` is one of the Hub's names, as in "mit"."""
    return _PAGE.format(
        header=yaml.safe_dump(_header(name, origin, license), sort_keys=False, allow_unicode=True),
        written_by=WRITTEN_BY,
        name=name,
        parameters=f"{parameters(config):,}",
        start=tokenizer.start if tokenizer else "",
        end=tokenizer.end if tokenizer else "",
        facts=_table(("", ""), [(what, fact) for what, fact in _facts(config, origin).items() if fact]),
        more=_figures(origin.figures) if origin.figures else "",
        licence=_licence(origin, license),
    )


def write_card(folder: Path, config: ModelConfig, tokenizer: Tokenizer | None, name: str, origin: Provenance) -> None:
    """Put a card in a folder, unless a person wrote one there."""
    if not has_own_words(folder / CARD):
        write_text(folder / CARD, model_card(config, tokenizer, name, origin))


def has_own_words(card: Path) -> bool:
    """Whether there is a card, and a person wrote it."""
    return card.is_file() and WRITTEN_BY not in card.read_text(encoding="utf-8", errors="replace")


def renamed(card: str, name: str, new: str) -> str:
    """A card for the model under another name, in the places where `model_card` has it."""
    for place in ("\n# {}\n", 'from_pretrained("{}")', "storylm generate {} "):
        card = card.replace(place.format(name), place.format(new))
    return card


def _facts(config: ModelConfig, origin: Provenance) -> dict[str, str | None]:
    """What is known of the model, by what it is; None or empty where nothing is."""
    windows = {window for window in config.windows if window is not None and window < config.context}
    learned = ", ".join(f"{count:,} {what}" for what, count in origin.counts.items())
    took = [
        origin.steps and f"{origin.steps:,} steps, {origin.tokens or 0:,} tokens",
        origin.seconds and _time(origin.seconds),
        origin.machine and f"on {origin.machine}",
    ]
    return {
        "architecture": f"{config.family}, {config.layers} layers of width {config.width}, {config.heads} heads"
        + (f", {config.kv_heads} of keys and values" if config.kv_heads != config.heads else ""),
        "context": f"{config.context:,} tokens"
        + (f", attention windows of {', '.join(map(str, sorted(windows)))}" if windows else ""),
        "vocabulary": f"{config.vocab_size:,}",
        "trained on": ": ".join(filter(None, (origin.source, learned))),
        "SHA-256": "; ".join(f"{what} `{digest}`" for what, digest in origin.hashes.items()),
        "recipe": ", ".join(filter(None, (origin.preset, *_settings(origin.recipe)))),
        "training": ", ".join(filter(None, took)),
        "software": origin.software,
        "bits per byte": None
        if origin.bits_per_byte is None
        else f"{origin.bits_per_byte:.4f} on {origin.stories:,} validation stories, each from its first token, nats of "
        "special tokens left out, stories longer than the context cut",
    }


def _settings(recipe: Mapping[str, Any]) -> list[str]:
    return [f"{name.replace('_', ' ')} {value}" for name, value in recipe.items()]


def _figures(figures: Figures) -> str:
    """Everything that was measured of the model, and how."""
    rows = [
        (
            one["name"].replace("_", " "),
            _number(one["value"]),
            "" if one["interval"] is None else " to ".join(map(_number, one["interval"])),
            _number(one["reference"]),
            BETTER.get(one["direction"], ""),
        )
        for one in figures.measures
    ]
    stories = named_source(figures.stories or "").get("source")
    judged = f"Judged by {stories}. " if stories else ""
    about = (
        f"{judged}{figures.convention} Intervals hold 95 % over stories; the reference is the same figure of real "
        "stories or, for questions with four answers, of chance."
    )
    return f"\n## Figures\n\n{about}\n\n{_table(('figure', 'value', '95 %', 'reference', 'better'), rows)}\n"


def _licence(origin: Provenance, license: str | None) -> str:
    of_model = f"The model: {license}." if license else "No licence has been chosen for the model yet."
    return f"{of_model} The stories it learned from: {origin.data_license}." if origin.data_license else of_model


def _header(name: str, origin: Provenance, license: str | None) -> dict[str, Any]:
    header: dict[str, Any] = {"license": license} if license else {}
    if origin.source:
        header["language"] = "en"  # of the named corpora and of the built-in stories
    header |= {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["storylm", "stories"]}
    if origin.dataset:
        header["datasets"] = [origin.dataset]
    results = []
    if origin.bits_per_byte is not None:
        results.append(_result(origin.source, origin.dataset, origin.bits_per_byte))
    if origin.figures is not None and origin.figures.bits_per_byte is not None:
        named = named_source(origin.figures.stories or "")
        judged = named.get("source", "stories to judge by")
        results.append(_result(f"{judged} (judged afterwards)", named.get("dataset"), origin.figures.bits_per_byte))
    if results:
        header["model-index"] = [{"name": name.rpartition("/")[2], "results": results}]
    return header


def _result(source: str | None, dataset: str | None, bits_per_byte: float) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": source, "type": dataset or "storylm"},
        "metrics": [{"type": "bits_per_byte", "value": round(bits_per_byte, 4), "name": "bits per byte"}],
    }


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    rule = tuple("---" for _ in head)
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (head, rule, *rows))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"

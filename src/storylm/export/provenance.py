"""Where a model comes from, as far as the run folder that it lies in tells; for its card."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any

import yaml

from storylm.config import plain_yaml
from storylm.config.errors import CheckpointError
from storylm.data.corpora import CORPORA
from storylm.data.sources import existing
from storylm.export.figures import Figures, figures_of
from storylm.model.folders import read_json
from storylm.model.transformer import Transformer

_DEPTH = 2  # runs/x/checkpoints/best lies two folders below the run
_RECIPE = ("tokenizer", "optimizer", "lr", "schedule", "weight_decay", "clip", "ema", "layout", "format")
_TOKENIZERS = ("bpe", "gpt2", "mistral", "bytes")


@dataclass(frozen=True)
class Provenance:
    """What is known about a model's training; None or empty for what is not.

    `source` names a corpus or a dataset of the Hub; what lies on a disk here is nobody's business and left out.
    `bits_per_byte`: of the validation stories in training, `stories` of them. `counts`: stories, tokens and bytes
    that were learned from; `hashes`: SHA-256 of the prepared stories and of the tokenizer; `recipe`: settings by name.
    """

    source: str | None = None
    dataset: str | None = None
    preset: str | None = None
    steps: int | None = None
    tokens: int | None = None
    bits_per_byte: float | None = None
    stories: int | None = None
    seconds: float | None = None
    data_license: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    machine: str | None = None
    software: str | None = None
    figures: Figures | None = None


def provenance(folder: Path, model: Transformer | None = None, figures: Path | None = None) -> Provenance:
    """What the run says whose checkpoint `folder` is, and what judging found of the `model`, from the file `figures` or
    from one beside the run's settings; nothing where there is no run.

    >>> provenance(Path("runs/story-5m/checkpoints/best")).source                   # doctest: +SKIP
    'tinystories'

    Raises:
        UsageError: `figures` are not those of the model.
    """
    above = folder.resolve().parents
    run = above[min(_DEPTH, len(above)) - 1]
    judged = None if model is None else figures_of(model, [folder, run], figures)
    try:
        settings = plain_yaml.load((run / "config.yaml").read_text(encoding="utf-8"))
        state = read_json(folder / "trainer_state.json")["values"]["state"]
        return Provenance(
            **named_source(str(settings["data"]["source"])),
            preset=str(settings["name"]),
            steps=int(state["step"]),
            tokens=int(state["tokens"]),
            **_validated(state.get("best_pass") if folder.resolve().name == "best" else None),
            seconds=state.get("seconds"),
            **_session(run),
            recipe=_recipe(settings),
            figures=judged,
        )
    except (OSError, CheckpointError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return Provenance(figures=judged)  # a card with less in it


def named_source(spec: str) -> dict[str, Any]:
    """What can be said of a source to anyone: its name and, on the Hub, dataset and licence."""
    name = spec.partition("?")[0]
    if name in CORPORA:
        return {"source": name, "dataset": CORPORA[name].repo, "data_license": CORPORA[name].license}
    if name.partition(":")[0] == "grammar":
        return {"source": "the stories built into storylm"}
    is_hub_name = name.count("/") == 1 and not name.startswith(("/", ".", "~")) and "\\" not in name
    return {"source": name, "dataset": name} if is_hub_name and not existing(name) and not Path(name).suffix else {}


def _validated(best_pass: dict[str, Any] | None) -> dict[str, Any]:
    if best_pass is None:
        return {}
    return {
        "bits_per_byte": best_pass["nats"] / log(2) / best_pass["bytes"],
        "stories": int(best_pass["stories"]),
    }


def _session(run: Path) -> dict[str, Any]:
    """What the run's manifest says of its latest start; nothing where there is none."""
    try:
        session = read_json(run / "manifest.json")["sessions"][-1]
        machine, software = session["machine"], session["software"]
        counts = session["stories"]["train"]
        return {
            "counts": {name: int(counts[name]) for name in ("stories", "tokens", "bytes")},
            "hashes": {"prepared stories": str(session["data"]), "tokenizer": str(session["tokenizer"])},
            "machine": ", ".join(machine["gpus"]) or f"{machine['cpu']}, {machine['cores']} cores",
            "software": f"storylm {software['storylm']}, torch {software['torch']}",
        }
    except (CheckpointError, LookupError, TypeError, ValueError):
        return {}


def _recipe(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that make most of a difference, by their last names; a path of someone's disk is none of them."""
    train, data = settings.get("train", {}), settings.get("data", {})
    every = {"tokenizer": settings.get("tokenizer"), **settings.get("optim", {}), **data}
    found = {name: every[name] for name in _RECIPE if every.get(name) is not None}
    if found.get("tokenizer") not in (None, *_TOKENIZERS) and not named_source(str(found["tokenizer"])):
        found["tokenizer"] = "of a file"
    if train:
        found["rows a step"] = train.get("batch_size", 1) * train.get("accumulation", 1)
        found["tokens a row"] = data.get("context") or settings["model"]["context"]
        found["seed"] = train.get("seed")
    return {name: value for name, value in found.items() if value is not None}

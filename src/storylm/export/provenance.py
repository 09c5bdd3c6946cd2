"""Where a model comes from, as far as the run folder that it lies in tells; for its card."""

from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import yaml

from storylm.config import plain_yaml
from storylm.config.errors import CheckpointError
from storylm.data.corpora import CORPORA
from storylm.data.sources import existing
from storylm.model.folders import read_json

_DEPTH = 2  # runs/x/checkpoints/best lies two folders below the run


@dataclass(frozen=True)
class Provenance:
    """What is known about a model's training; None for what is not.

    `source` names a corpus or a dataset of the Hub; what lies on a disk here is nobody's business and left out.
    `bits_per_byte`: of the validation stories in training, `stories` of them.
    """

    source: str | None = None
    dataset: str | None = None
    preset: str | None = None
    steps: int | None = None
    tokens: int | None = None
    bits_per_byte: float | None = None
    stories: int | None = None


def provenance(folder: Path) -> Provenance:
    """What the run says whose checkpoint `folder` is; nothing where it is none.

    >>> provenance(Path("runs/story-5m/checkpoints/best")).source                   # doctest: +SKIP
    'tinystories'
    """
    run = folder.resolve().parents[_DEPTH - 1]
    try:
        settings = plain_yaml.load((run / "config.yaml").read_text(encoding="utf-8"))
        state = read_json(folder / "trainer_state.json")["values"]["state"]
        return Provenance(
            **_source(str(settings["data"]["source"])),
            preset=str(settings["name"]),
            steps=int(state["step"]),
            tokens=int(state["tokens"]),
            **_figures(state.get("best_pass") if folder.resolve().name == "best" else None),
        )
    except (OSError, CheckpointError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return Provenance()  # a card with less in it


def _source(spec: str) -> dict[str, Any]:
    name = spec.partition("?")[0]
    if name in CORPORA:
        return {"source": name, "dataset": CORPORA[name].repo}
    if name.partition(":")[0] == "grammar":
        return {"source": "the stories built into storylm"}
    is_hub_name = name.count("/") == 1 and not name.startswith(("/", ".", "~")) and "\\" not in name
    return {"source": name, "dataset": name} if is_hub_name and not existing(name) and not Path(name).suffix else {}


def _figures(best_pass: dict[str, Any] | None) -> dict[str, Any]:
    if best_pass is None:
        return {}
    return {
        "bits_per_byte": best_pass["nats"] / log(2) / best_pass["bytes"],
        "stories": int(best_pass["stories"]),
    }

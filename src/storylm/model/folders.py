"""Where a model's files are and what is in them: folders, runs, the Hub; JSON and safetensors, never pickle."""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from storylm.config.errors import CheckpointError, SetupError
from storylm.config.files import expanded
from storylm.config.load import preset_names
from storylm.model.quantised import INT8_WEIGHTS

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
BUILT_IN = Path(__file__).parents[1] / "models"  # a folder for each model that comes with the package
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FROM_HUB = [
    "config.json",
    "generation_config.json",
    _SINGLE,
    _INDEX,
    INT8_WEIGHTS,
    "model-*.safetensors",
    *TOKENIZER_FILES,
]
_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_NO_PICKLE = (
    "there are weights in pickle files, which can run any code when they are read, so storylm does not; where you "
    "trust them, let transformers rewrite them: AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)"
)


def find_model_folder(source: str | Path) -> Path:
    """The folder with config.json that `source` means: itself, a run's best or last checkpoint, one from the Hub, that
    of a model that comes with the package, as `grammar-1m` does, or the run of a preset, where `storylm train` put it.

    Raises:
        CheckpointError: there is none.
    """
    path = expanded(source)
    if path.is_file():
        raise CheckpointError(f"{path} is a file, not a model folder (`storylm convert` reads llama2.c's .bin files)")
    if path.is_dir():
        for inner in ("", "checkpoints/best", "checkpoints/last", "best", "last"):
            if (path / inner / "config.json").is_file():
                return path / inner
        raise CheckpointError(f"{path} is not a model folder: it has no config.json and no checkpoints")
    built_in = {folder.name: folder for folder in BUILT_IN.iterdir() if folder.is_dir()}
    if str(source) in built_in:
        return built_in[str(source)]
    if str(source) in preset_names():
        if (run := Path("runs") / source).is_dir():
            return find_model_folder(run)
        raise CheckpointError(f"{source} is a preset: train it (storylm train {source}), then name {run.as_posix()}")
    match = _HUB_ID.fullmatch(str(source))
    # In a folder that exists, the name is a path mistyped rather than an id: no need to ask the network.
    if match is None or path.parent.exists():
        raise CheckpointError(
            f"there is no model folder {path}: check the path, or give a Hub id such as OWNER/NAME; "
            f"{' and '.join(sorted(built_in))} comes with storylm"
        )
    return _download(match["repo"], match["revision"])


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        CheckpointError: missing, damaged, or something else than an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path.name} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path.name} is damaged: it holds no JSON object")
    return values


def read_weights(folder: Path, single: str = _SINGLE) -> dict[str, torch.Tensor]:
    """All tensors of a model folder, from one safetensors file or from several with an index.

    Raises:
        CheckpointError: missing or damaged files.
    """
    if (folder / _INDEX).is_file() and not (folder / single).is_file():
        weight_map = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise CheckpointError(f"{_INDEX} is damaged: it has no weight_map")
        shards = sorted(set(weight_map.values()))
    else:
        weight_map, shards = None, [single]
    weights: dict[str, torch.Tensor] = {}
    for shard in shards:
        if Path(shard).name != shard:  # an index from elsewhere must not make us read outside its folder
            raise CheckpointError(f"{_INDEX} is damaged: {shard!r} is not the name of a file")
        weights |= _read_shard(folder / shard)
    if weight_map is not None and (absent := weight_map.keys() - weights.keys()):
        raise CheckpointError(f"{_INDEX} names {min(absent)}, which no file holds")
    return weights


def _read_shard(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        pickled = any(path.parent.glob("*.bin")) or any(path.parent.glob("*.pt"))
        raise CheckpointError(f"there is no {path.name}" + (f"; {_NO_PICKLE}" if pickled else ""))
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}") from error


def _download(repo: str, revision: str | None) -> Path:
    """A model of the Hub in the local cache. With HF_HUB_OFFLINE=1 only what is there already is found."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SetupError("the Hub needs huggingface_hub: pip install 'storylm[hub]'") from error

    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=_FROM_HUB))
    except Exception as error:  # dozens of kinds: no such model, no network, no permission, no space
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"there is no folder {repo.replace('/', os.sep)} here, and as a model of the Hub it cannot be had: {reason}"
        ) from error
    if not any((folder / name).is_file() for name in (_SINGLE, _INDEX, INT8_WEIGHTS)):
        raise CheckpointError(f"{repo} on the Hub has no {_SINGLE}; if {_NO_PICKLE}")
    return folder

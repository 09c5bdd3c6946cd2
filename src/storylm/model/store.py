"""Models in and out of folders that transformers reads too.

    config.json  generation_config.json  model.safetensors  tokenizer.json  tokenizer_config.json

Weights come in as fp32 on the CPU whatever precision the file has, and go out as they are, or in 8 bits, in a folder
that only we read (`model.quantised`).
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from storylm.config.errors import CheckpointError, UsageError
from storylm.config.files import atomic_folder, write_text
from storylm.model.families import from_config_json, to_config_json
from storylm.model.folders import TOKENIZER_FILES, find_model_folder, read_json, read_weights
from storylm.model.quantised import INT8_WEIGHTS, dequantised, is_marked, marked, quantised, unmarked
from storylm.model.tensor_names import NAMES, from_file, to_file
from storylm.model.transformer import Transformer
from storylm.text.files import has_tokenizer
from storylm.text.tokenizer import Tokenizer

WEIGHTS = "model.safetensors"
# What `save` may replace: a folder with anything else in it is not ours to delete.
MODEL_FILES = {"config.json", "generation_config.json", WEIGHTS, INT8_WEIGHTS, *TOKENIZER_FILES}


def load(source: str | Path) -> tuple[Transformer, Tokenizer | None]:
    """The model in a folder, with its tokenizer where the folder has one; ready to use (`eval()`), fp32, CPU.

    `source` is a model folder, ours or one that transformers' `save_pretrained` wrote; a checkpoint; a run
    folder (its best checkpoint, else the last); the id of a model on the Hugging Face Hub, as in
    "openai-community/gpt2" or, at a revision, "openai-community/gpt2@main"; or "grammar-1m", which comes with the
    package.

    >>> model, tokenizer = load("runs/story-5m")                                    # doctest: +SKIP

    Raises:
        CheckpointError: no such model, damaged files, weights that are not those of config.json, or a
            tokenizer with more tokens than the model.
    """
    folder = find_model_folder(source)
    tokenizer = Tokenizer.load(folder) if has_tokenizer(folder) else None
    try:
        model = _read_model(folder)
        check_vocabulary(model, tokenizer)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    return model, tokenizer


def save(model: Transformer, tokenizer: Tokenizer | None, folder: str | Path, int8: bool = False) -> None:
    """Write a model folder, whole or not at all; a model folder that stands there is replaced.

    Loading it gives the same weights bit for bit, and `AutoModelForCausalLM` and `AutoTokenizer` of
    transformers 4.57 and 5 load it too. With `int8` it takes a quarter of the room, loads with rounded weights, and
    transformers refuses it.

    >>> save(model, tokenizer, "models/mine")                                       # doctest: +SKIP

    Raises:
        UsageError: transformers has no class for such a model, or the folder holds other things.
        CheckpointError: a tokenizer with more tokens than the model.
    """
    folder = Path(folder)
    check_replaceable(folder)
    with atomic_folder(folder) as temporary:
        write_model_files(model, tokenizer, temporary, int8)


def write_model_files(model: Transformer, tokenizer: Tokenizer | None, folder: Path, int8: bool = False) -> None:
    """Write the files of a model folder into one that exists: the part of `save` that checkpoints share."""
    check_vocabulary(model, tokenizer)
    config_json = to_config_json(model.config, tokenizer)
    dtype = str(model.head_weight.dtype).removeprefix("torch.")
    config_json |= {"dtype": dtype, "torch_dtype": dtype}
    weights = to_file({name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}, model.config)
    if int8:
        config_json, weights = marked(config_json), quantised(weights, NAMES[model.config.family])
    write_json(folder / "config.json", config_json)
    write_json(folder / "generation_config.json", _generation_config(tokenizer))
    # Transformers 4 refuses files without this metadata.
    save_file(weights, folder / (INT8_WEIGHTS if int8 else WEIGHTS), metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save(folder)


def check_vocabulary(model: Transformer, tokenizer: Tokenizer | None) -> None:
    """Refuse a tokenizer with more tokens than the model; a model may have more (padding of its table).

    Raises:
        CheckpointError: they do not belong together.
    """
    if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size} tokens but the model only {model.config.vocab_size}: "
            "they do not belong together; use the tokenizer the model was trained with"
        )


def check_replaceable(folder: Path) -> None:
    """Refuse to replace what is not a model folder.

    Raises:
        UsageError: a file stands there, or the folder holds anything but a model's files.
    """
    if folder.is_dir():
        others = sorted({path.name for path in folder.iterdir()} - MODEL_FILES)
        if others:
            raise UsageError(f"{folder} holds {others[0]}, which saving a model there would delete: name a new folder")
    elif folder.exists():
        raise UsageError(f"{folder} is a file: name a folder to save the model in")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Readable JSON, keys in the order given."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _read_model(folder: Path) -> Transformer:
    values = read_json(folder / "config.json")
    int8 = is_marked(values)
    config = from_config_json(unmarked(values) if int8 else values)
    with torch.device("meta"):
        like = Transformer(config).state_dict()  # names and shapes
    file = dequantised(read_weights(folder, INT8_WEIGHTS)) if int8 else read_weights(folder)
    weights = from_file(file, like, config)
    with torch.random.fork_rng(devices=[]):  # the layers draw weights that are replaced at once
        model = Transformer(config)
    model.load_state_dict(weights)
    return model.eval()


def _generation_config(tokenizer: Tokenizer | None) -> dict[str, Any]:
    if tokenizer is None:
        return {}
    # Stories end at eos; filling up with it too is what transformers would do, after a warning.
    end = tokenizer.end_id
    return {"bos_token_id": tokenizer.start_id, "eos_token_id": end, "pad_token_id": end}

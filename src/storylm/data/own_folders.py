"""Folders that storylm itself makes: what is in them looks like stories (validation.jsonl, config.json) and is none."""

from pathlib import Path

_SIGNS = {
    "prepared stories": ("manifest.json", "cleaning.json", "tokenizer"),
    "unfinished prepared stories": (".work/key",),
    "a run": ("manifest.json", "config.yaml"),
    "a model": ("config.json", "model.safetensors"),
    "a model in 8 bits": ("config.json", "model.int8.safetensors"),
    "a tokenizer": ("tokenizer.json", "tokenizer_config.json"),
}


def kind_of(folder: Path) -> str | None:
    """What storylm has put into `folder`, in words; None: it is not one of ours.

    >>> kind_of(Path("no such folder")) is None
    True
    """
    return next((kind for kind, signs in _SIGNS.items() if all((folder / sign).exists() for sign in signs)), None)

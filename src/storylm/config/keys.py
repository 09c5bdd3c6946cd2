"""Every setting by its dotted name: what it may be, and what a mistyped name may have meant."""

import types
from collections.abc import Iterator
from difflib import SequenceMatcher, get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from storylm.config.base import Settings
from storylm.config.schema import RunConfig

# What other trainers call our settings, for "did you mean".
ELSEWHERE = {
    "learning_rate": "optim.lr",
    "max_lr": "optim.lr",
    "min_lr": "optim.final_lr_ratio",
    "wd": "optim.weight_decay",
    "grad_clip": "optim.clip",
    "warmup_iters": "optim.warmup_steps",
    "warmup_ratio": "optim.warmup_share",
    "max_steps": "train.steps",
    "max_iters": "train.steps",
    "num_train_epochs": "train.epochs",
    "gradient_accumulation_steps": "train.accumulation",
    "dtype": "train.precision",
    "early_stopping": "train.patience",
    "eval_interval": "train.eval_every",
    "block_size": "model.context",
    "max_seq_len": "model.context",
    "n_layer": "model.layers",
    "num_layers": "model.layers",
    "n_head": "model.heads",
    "n_embd": "model.width",
    "d_model": "model.width",
    "hidden_size": "model.width",
    "intermediate_size": "model.ff_width",
    "tie_word_embeddings": "model.tied",
    "dataset": "data.source",
}
_LIKE_ENOUGH = 0.6
_BOUNDS = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}


def _walk(group: type[Settings], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in group.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            yield from _walk(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


FIELDS: dict[str, FieldInfo] = dict(_walk(RunConfig, ""))
"""Every setting's pydantic field by its dotted name, in the order of the schema."""

GROUPS: frozenset[str] = frozenset(
    ".".join(parts[:depth]) for parts in (name.split(".") for name in FIELDS) for depth in range(1, len(parts))
)
"""The dotted names that hold settings instead of a value: `optim`, `data.cleaning`."""


def suggestion(name: str) -> str:
    """ "; did you mean 'optim.lr'?" for a name that is no setting, searching all groups; "" where none is alike.

    >>> suggestion("optim.warmup_step"), suggestion("lr")
    ("; did you mean 'optim.warmup_steps'?", "; did you mean 'optim.lr'?")
    """
    last = name.rpartition(".")[2]
    if last in ELSEWHERE:
        return f"; did you mean '{ELSEWHERE[last]}'?"

    def likeness(known: str) -> tuple[float, float]:
        alike = SequenceMatcher(None, last, known.rpartition(".")[2]).ratio()
        return alike, SequenceMatcher(None, name, known).ratio()

    best = max(FIELDS, key=likeness)
    return f"; did you mean '{best}'?" if likeness(best)[0] >= _LIKE_ENOUGH else ""


def closest(word: str, words: list[str]) -> str:
    """ "; did you mean 'story-1m'?", or "" where none of `words` is alike."""
    match = get_close_matches(word, words, n=1, cutoff=_LIKE_ENOUGH)
    return f"; did you mean '{match[0]}'?" if match else ""


def choices(name: str) -> list[str]:
    """The words a setting may be, where it is a choice of words; else an empty list."""
    annotation = FIELDS[name].annotation
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []


def takes(name: str, kind: type) -> bool:
    """Whether the setting may be a plain `kind`, such as `str`."""
    annotation = FIELDS[name].annotation
    return annotation is kind or (_is_union(annotation) and kind in get_args(annotation))


def allowed(name: str) -> str:
    """What a setting may be, in words.

    >>> allowed("optim.schedule"), allowed("train.steps")
    ('constant, linear, cosine or wsd', 'a whole number (at least 1), or null')
    """
    return _words(FIELDS[name].annotation, _bounds(FIELDS[name]))


def _bounds(field: FieldInfo) -> str:
    bounds = [
        f"{words} {getattr(bound, attribute):.10g}"
        for bound in field.metadata
        for attribute, words in _BOUNDS.items()
        if hasattr(bound, attribute)
    ]
    return f" ({' and '.join(bounds)})" if bounds else ""


def _words(annotation: Any, bounds: str = "") -> str:
    if get_origin(annotation) is Annotated:
        kind, field = get_args(annotation)
        return _words(kind, _bounds(field))
    if get_origin(annotation) is Literal:
        *others, last = map(str, get_args(annotation))
        return f"{', '.join(others)} or {last}"
    if _is_union(annotation):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return " or ".join(_words(kind, bounds) for kind in kinds) + ", or null"
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        count = "each" if items[-1] is Ellipsis else f"{len(items)} items, each"
        return f"a list, {count} {_words(items[0])}"
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return plain[annotation] + bounds


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)

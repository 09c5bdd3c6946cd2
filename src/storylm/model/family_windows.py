"""Attention windows as config.json states them: four styles, each a pair of functions.

Writing takes the window of every layer (None: all earlier tokens); what a style cannot say comes back
different from reading, and `families` refuses it. All count as we do: a window of w is the token itself
and the w - 1 before it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from storylm.config.errors import CheckpointError

Windows = tuple[int | None, ...]


class WindowStyle(NamedTuple):
    """`write(windows of all layers)` gives keys of config.json, `read(config.json, layers)` the windows."""

    write: Callable[[list[int | None]], dict[str, Any]]
    read: Callable[[dict[str, Any], int], Windows]


def shortest_period(windows: list[int | None]) -> Windows:
    """The shortest pattern that, repeated, gives these windows.

    >>> shortest_period([None, 256, None, 256, None])
    (None, 256)
    """
    length = len(windows)
    return next(
        tuple(windows[:period])
        for period in range(1, length + 1)
        if all(windows[layer] == windows[layer % period] for layer in range(length))
    )


def _size(windows: list[int | None], default: int | None = None) -> int | None:
    """The one size of window; the largest where there are several, which reading back then shows."""
    return max((window for window in windows if window is not None), default=default)


def _no_window(windows: list[int | None]) -> dict[str, Any]:
    return {}


def _read_no_window(values: dict[str, Any], layers: int) -> Windows:
    return (None,)


# GPT-Neo: [[["global", "local"], 4]] is global, local, four times over; one window_size.


def _write_attention_types(windows: list[int | None]) -> dict[str, Any]:
    period = shortest_period(windows)
    if len(windows) % len(period):
        period = tuple(windows)
    kinds = ["global" if window is None else "local" for window in period]
    return {
        "attention_types": [[kinds, len(windows) // len(period)]],
        "attention_layers": kinds * (len(windows) // len(period)),
        "window_size": _size(windows, default=256),
    }


def _read_attention_types(values: dict[str, Any], layers: int) -> Windows:
    types = values.get("attention_types") or [[["global", "local"], 12]]
    kinds = [kind for pattern, times in types for _ in range(times) for kind in pattern]
    if len(kinds) != layers:
        raise CheckpointError(f"config.json: attention_types name {len(kinds)} layers, num_layers says {layers}")
    return _windows(kinds, {"global": None, "local": int(values.get("window_size", 256))})


# Mistral: one sliding_window for all layers, or null.


def _write_sliding_window(windows: list[int | None]) -> dict[str, Any]:
    return {"sliding_window": _size(windows)}


def _read_sliding_window(values: dict[str, Any], layers: int) -> Windows:
    if values.get("layer_types"):
        raise CheckpointError("config.json: MistralForCausalLM knows no layer_types; is model_type right?")
    return (values.get("sliding_window", 4096),)


# Qwen3: the kind of each layer in layer_types; without it the layers from max_window_layers on slide.


def _write_layer_types(windows: list[int | None]) -> dict[str, Any]:
    kinds = ["full_attention" if window is None else "sliding_attention" for window in windows]
    return {
        "layer_types": kinds,
        "use_sliding_window": _size(windows) is not None,
        "sliding_window": _size(windows),
        "max_window_layers": [*kinds, "sliding_attention"].index("sliding_attention"),
    }


def _read_layer_types(values: dict[str, Any], layers: int) -> Windows:
    size = values.get("sliding_window", 4096) if values.get("use_sliding_window", False) else None
    kinds = values.get("layer_types")
    if kinds is None:
        first = values.get("max_window_layers", 28) if size is not None else layers
        kinds = ["full_attention" if layer < first else "sliding_attention" for layer in range(layers)]
    if len(kinds) != layers:
        raise CheckpointError(f"config.json: layer_types name {len(kinds)} layers, num_hidden_layers says {layers}")
    if size is None and "sliding_attention" in kinds:
        raise CheckpointError("config.json: layer_types have sliding_attention but sliding_window is not in use")
    return _windows(kinds, {"full_attention": None, "sliding_attention": size})


def _windows(kinds: list[str], sizes: dict[str, int | None]) -> Windows:
    if unknown := set(kinds) - set(sizes):
        raise CheckpointError(f"config.json: attention of the kind {unknown.pop()!r} is not one of {', '.join(sizes)}")
    return shortest_period([sizes[kind] for kind in kinds])


WINDOWS = {
    "none": WindowStyle(_no_window, _read_no_window),
    "attention_types": WindowStyle(_write_attention_types, _read_attention_types),
    "sliding_window": WindowStyle(_write_sliding_window, _read_sliding_window),
    "layer_types": WindowStyle(_write_layer_types, _read_layer_types),
}

"""`storylm export`: a model for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from storylm.cli import options

if TYPE_CHECKING:
    from storylm.export.exporting import Comparison


def export(
    model: str = typer.Argument(help=options.MODEL_HELP),
    format: str = typer.Option(help="hf, gguf, llama2c, onnx or int8: see docs/exports.md."),
    out: Path = typer.Option(help="The folder to write; an earlier export there is replaced."),
    precision: str = typer.Option(
        None, help="hf: f32, bf16, f16; gguf: q8_0, f16, f32; llama2c: f32, f32-v1, int8 (the first is the default)."
    ),
    license: str = typer.Option(None, help="For the model card of hf, one of the Hub's names, such as mit."),
    figures: Path = typer.Option(None, help="For the card: the JSON of `storylm evaluate` or `storylm leaderboard`."),
    tokenizer: options.OtherTokenizer = None,
) -> None:
    """Write a model for another program: transformers, vLLM, llama.cpp, Ollama, llama2.c, ONNX; or small, in int8.

    What was written is read back, and its scores are compared with the model's own, before it takes its place.
    """
    from storylm.config.errors import UsageError
    from storylm.config.files import expanded
    from storylm.export import exporting
    from storylm.export.provenance import provenance
    from storylm.model.folders import find_model_folder
    from storylm.model.store import load
    from storylm.text.tokenizer import Tokenizer

    exporting.check_format(format, precision)
    source, out = find_model_folder(expanded(model)), expanded(out)
    if out.resolve() in (source.resolve(), *source.resolve().parents):
        raise UsageError(f"{out} is where the model itself is: name another folder")
    network, own = load(source)
    words = own if tokenizer is None else Tokenizer.load(tokenizer)
    origin = provenance(source, network, figures and expanded(figures))
    written = exporting.export(network, words, format, out, precision, origin, license)
    for note in written.notes:
        print(f"note   {note}")
    total = sum(written.sizes.values())
    print(f"{out}: {format}, {written.precision}, {_size(total)}")
    for name, size in written.sizes.items():
        print(f"  {name:<24} {_size(size):>10}{_comparison(written.comparisons.get(name))}")
    for number, line in enumerate(written.next):
        print(f"{'' if number else 'next':<7}{line}")


def _comparison(found: "Comparison | None") -> str:
    if found is None:
        return ""
    return (
        f"   logits differ by at most {found.difference:.2g} (they spread by {found.spread:.2g}); "
        f"{found.agreement:.1%} of tokens have the same likeliest next one"
    )


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"

"""Who reads what `storylm export` writes, and how near their logits are: every format, family and reader.

    python benchmarks/export_matrix.py [--node FOLDER]     FOLDER has transformers.js in its node_modules

Tiny random models, no two sizes alike, with matrices eight times as large as fresh ones: with those a wrong rotation,
scale or order of heads is far beyond rounding. What is rounded in the file is the first figure, our own reader against
the model; the others are other readers against ours, of the same file. Readers that are not installed are left out.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from peers.machine import commit, versions
from peers.rounds import BENCHMARKS
from readers import ONLY, READERS, Case, storylm
from rich.console import Console
from rich.table import Table
from torch import Tensor

from storylm.config.errors import UsageError
from storylm.config.files import write_text
from storylm.config.model import ModelConfig
from storylm.export.exporting import export
from storylm.export.formats import FORMATS
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

PACKAGES = ("gguf", "onnx", "onnxruntime", "llama-cpp-python", "transformer-lens", "nnsight")
SPREAD = 0.16  # of the matrices' weights
ROWS, LENGTH = 2, 33
_SIZES = {"vocab_size": 320, "context": 40, "layers": 3, "width": 96, "heads": 6, "ff_width": 160}
MODELS = {
    "llama": ModelConfig(family="llama", kv_heads=2, norm_eps=1e-5, **_SIZES),
    "mistral": ModelConfig(family="mistral", kv_heads=3, norm_eps=1e-5, tied=True, **_SIZES),
    "mistral, window": ModelConfig(family="mistral", kv_heads=2, windows=(8,), **_SIZES),
    "qwen3": ModelConfig(family="qwen3", kv_heads=2, head_dim=24, rope_theta=1234.5, tied=True, **_SIZES),
    "gpt2": ModelConfig(family="gpt2", **_SIZES),
    "gpt_neo": ModelConfig(family="gpt_neo", windows=(None, 8), **_SIZES),
}


def random_model(config: ModelConfig) -> Transformer:
    """Every parameter drawn, biases and norms too."""
    generator, model = torch.Generator().manual_seed(0), Transformer(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = parameter.ndim == 1 and not name.endswith("bias")
            parameter.normal_(float(gain), 0.1 if parameter.ndim == 1 else SPREAD, generator=generator)
    return model


def difference(first: Tensor, second: Tensor) -> float:
    """The largest, to three digits."""
    return float(f"{float((first - second).abs().max()):.3g}")


def measure(name: str, format: str, precision: str, tokenizer: Tokenizer, folder: Path, node: Path | None) -> Any:
    """The row of one model in one format and precision; what is missing goes to the terminal."""
    config = MODELS[name]
    row: dict[str, Any] = {"format": format, "precision": precision, "model": name}
    model = random_model(config)
    out = folder / f"{format}-{precision}-{name.replace(', ', '-')}" / "model"
    try:
        export(model, tokenizer, format, out, precision)
    except UsageError as error:
        return {**row, "refused": str(error)}
    tokens_BT = torch.randint(config.vocab_size, (ROWS, LENGTH), generator=torch.Generator().manual_seed(7))
    case = Case(out, config, format, precision, tokens_BT, node)
    with torch.no_grad():
        expected = model(tokens_BT)
    own = storylm(case)
    row["readers"] = {"storylm": difference(own, expected)}
    for reader, read in READERS[format].items():
        if precision not in ONLY.get(reader, (precision,)):
            continue
        try:
            row["readers"][reader] = difference(read(case), own)
        except ImportError as error:
            print(f"{reader} is left out: {error}", file=sys.stderr)
    return {**row, "spread": round(float(expected.std()), 2)}


def main(given: list[str] | None = None) -> int:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", type=Path, help="a folder with transformers.js in its node_modules")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results" / "exports.json")
    options = parser.parse_args(given)
    warnings.simplefilter("ignore")  # the readers' own
    tokenizer = train_bpe(["Once upon a time, there was a little girl named Lily."] * 9, 300)
    with tempfile.TemporaryDirectory(prefix="storylm-exports-") as folder:
        rows = [
            measure(name, format, precision, tokenizer, Path(folder), options.node)
            for format in options.formats
            for precision in FORMATS[format].precisions
            for name in options.models
        ]
    about = {
        "what": "largest difference of logits; storylm's reader to the model, others to storylm's reader",
        "weights": f"random, matrices of standard deviation {SPREAD}",
        "commit": commit(),
        "versions": versions() | versions(PACKAGES),
    }
    write_text(options.output, json.dumps({**about, "results": rows}, indent=2) + "\n")
    table = Table("format", "model", "reader", "largest difference", box=None)
    for row in rows:
        for reader, found in row.get("readers", {"": row.get("refused", "")}).items():
            table.add_row(f"{row['format']} {row['precision']}", row["model"], reader, str(found))
    Console(highlight=False, width=140).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

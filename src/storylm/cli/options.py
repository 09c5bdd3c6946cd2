"""Options that several commands share, and what they stand for."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from storylm.model.transformer import Transformer
    from storylm.text.tokenizer import Tokenizer

MODEL_HELP = "A model folder, a run folder, a Hub id or grammar-1m, which comes with storylm."

Prompts = Annotated[list[str] | None, typer.Option("--prompt", "-p", help="How the story begins; may be repeated.")]
PromptsFile = Annotated[str | None, typer.Option(metavar="FILE", help="Prompts, one a line; - is standard input.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="The longest story after the prompt, in tokens.")]
Temperature = Annotated[float, typer.Option(min=0, help="0: the likeliest token always; 1: as the model predicts.")]
TopK = Annotated[int | None, typer.Option(help="Draw from the K likeliest tokens; 0: from all.")]
TopP = Annotated[float | None, typer.Option(help="Draw from the likeliest tokens that make up this probability.")]
MinP = Annotated[float | None, typer.Option(help="Draw from tokens at least this many times as likely as the first.")]
RepetitionPenalty = Annotated[float, typer.Option(help="Above 1: tokens that came before are less likely.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Same seed, same story.")]
Stop = Annotated[list[str] | None, typer.Option(help="Text that ends a story and is left out; may be repeated.")]
Truncate = Annotated[
    str | None, typer.Option(metavar="left", help="Drop the beginning of a prompt longer than the context.")
]
OtherTokenizer = Annotated[
    str | None, typer.Option("--tokenizer", help="Instead of the model's own: gpt2, mistral, bytes, a file, a Hub id.")
]
Precision = Annotated[
    str,
    typer.Option(help="Of the matrices when telling: fp32, bf16 or int8 (fastest on a CPU; on a GPU it saves memory)."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
SplitName = Annotated[
    str | None, typer.Option("--split", help="train, validation or all (default: validation where there is one).")
]
MaxStories = Annotated[int | None, typer.Option(min=1, help="Only the first so many stories.")]


def also(option: str, *flags: str) -> Any:
    """A hidden option whose value goes to `option`, unless that is given itself: other programs' names for it."""
    return typer.Option(*flags, hidden=True, is_eager=True, callback=_gives(option))


def _gives(option: str) -> Callable[[typer.Context, Any], Any]:
    def callback(context: typer.Context, value: Any) -> Any:
        if value is not None:
            context.default_map = {**(context.default_map or {}), option: value}
        return value

    return callback


def preset_names(incomplete: str) -> list[str]:
    """What a shell completes a preset's name to; without the settings' imports, to be quick."""
    from importlib.resources import files

    names = (path.name.removesuffix(".yaml") for path in (files("storylm.config") / "presets").iterdir())
    return sorted(name for name in names if name.startswith(incomplete))


def check_output(path: Path | None, *endings: str, option: str = "--output") -> None:
    """Refuse a file that cannot be written, or that has none of the endings, before hours of work.

    Raises:
        UsageError: saying why.
    """
    from storylm.config.errors import UsageError

    if path is None:
        return
    if endings and path.suffix.lower() not in endings:
        raise UsageError(f"{option} {path} is of no known kind: end it in {', '.join(endings)}")
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder: name a file in it")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=above):  # permission alone does not say: no one writes to /proc, root included
            pass
    except OSError:
        raise UsageError(f"{option} {path} cannot be written: {above} is no folder that takes files") from None


def read_prompts(prompts: list[str] | None, file: str | None) -> list[str]:
    """The prompts given and those of the file, in this order; where there are none, the empty one: a free start.

    Raises:
        UsageError: a prompt is not UTF-8.
        DataError: the file is missing, empty or not UTF-8.
    """
    from storylm.config.errors import DataError, UsageError
    from storylm.config.files import expanded

    given = list(prompts or [])
    for prompt in given:
        if any("\ud800" <= character <= "\udfff" for character in prompt):  # what Python makes of other bytes
            raise UsageError(f"prompt {prompt!r} is not UTF-8")
    if file is not None:
        try:
            data = sys.stdin.buffer.read() if file == "-" else expanded(file).read_bytes()
            lines = data.decode("utf-8-sig").split("\n")
        except OSError as error:
            raise DataError(f"cannot read the prompts of {file}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8 at byte {error.start}: convert it") from error
        lines = [line.removesuffix("\r") for line in lines if line.strip()]
        if not lines:
            raise DataError(f"{file} has no prompts: write one on each line")
        given += lines
    return given or [""]


def read_order(
    words: str | None, features: str | None, summary: str | None, sentence: str | None, other: Any = None
) -> str | None:
    """The prompt of a story to order (`data.instruct`); None: nothing is ordered.

    Raises:
        UsageError: a feature that there is not, or another prompt is given too.
    """
    from storylm.config.errors import UsageError
    from storylm.data.instruct import FEATURES, Order, order_in

    if (words, features, summary, sentence) == (None, None, None, None):
        return None
    if other:
        raise UsageError(
            "--words, --features, --summary and --sentence make the prompt: leave out --prompt and its file"
        )
    order = order_in({"words": words, "features": features, "summary": summary, "random sentence": sentence})
    if order == Order():
        raise UsageError("nothing is ordered: say what in --words, --features, --summary or --sentence")
    for feature in order.features:
        if feature not in FEATURES:
            raise UsageError(f"no feature {feature!r}: --features takes {', '.join(FEATURES)}, with commas between")
    return order.prompt


def load_model(
    source: str, tokenizer: str | None, device: str, spare: str | None = None
) -> "tuple[Transformer, Tokenizer]":
    """The model on its device, ready to use, and its tokenizer or the one named instead; `spare` is for one without.

    Raises:
        CheckpointError: no such model, it has no tokenizer, or not this one.
    """
    from storylm.config.errors import CheckpointError
    from storylm.config.files import expanded
    from storylm.model.store import check_vocabulary, load
    from storylm.text.tokenizer import Tokenizer
    from storylm.training.device import pick_device

    place = pick_device(device, "--device")
    model, own = load(expanded(source))
    named = tokenizer or (spare if own is None else None)
    words = own if named is None else Tokenizer.load(named)
    if words is None:
        raise CheckpointError(
            f"{source} has no tokenizer: say which one it was trained with, as in --tokenizer gpt2 or --tokenizer FILE"
        )
    check_vocabulary(model, words)
    return model.to(place).eval(), words


def read_suites(given: str | None) -> list[str]:
    """The suites that `--suites` names; none where it is not given.

    Raises:
        UsageError: one does not exist.
    """
    from storylm.config.errors import UsageError
    from storylm.evaluation.asking import NAMES

    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    for name in names:
        if name not in [*NAMES, "all"]:
            raise UsageError(f"no prompt suite {name!r}: --suites takes {', '.join(NAMES)}, or all")
    if given is not None and not names:
        raise UsageError(f"--suites is empty: it takes {', '.join(NAMES)}, or all")
    return list(NAMES) if "all" in names else list(dict.fromkeys(names))

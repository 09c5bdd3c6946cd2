"""Write a model in another format and look at what was written: its logits on a few stories, beside the model's own."""

# B batch, T tokens, V vocabulary, N = tokens of all stories

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from storylm.config.errors import CheckpointError, UsageError
from storylm.config.files import atomic_folder
from storylm.data.grammar import stories
from storylm.export.card import CARD, has_own_words, model_card
from storylm.export.formats import FORMATS, ROUNDING, Scores
from storylm.export.provenance import Provenance
from storylm.model.store import check_vocabulary
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

STORIES, LONGEST = 4, 256  # that are scored, and how many tokens of one


@dataclass(frozen=True)
class Comparison:
    """The logits of one file beside the model's: the largest difference, the root of the mean square of all, the spread
    of the model's (one standard deviation), and the share of tokens for which the likeliest next one is the same."""

    difference: float
    mean_difference: float
    spread: float
    agreement: float


@dataclass(frozen=True)
class Exported:
    """What was written. `sizes`: bytes of every file; `comparisons`: by the files that hold weights."""

    folder: Path
    precision: str
    sizes: dict[str, int]
    comparisons: dict[str, Comparison]
    notes: list[str]
    next: list[str]


def check_format(format: str, precision: str | None = None) -> str:
    """The precision, the format's first unless given. Raises `UsageError` for a format or precision there is not."""
    if format not in FORMATS:
        raise UsageError(f"format {format!r} is not known: choose one of {', '.join(FORMATS)}")
    known = FORMATS[format].precisions
    if precision is not None and precision not in known:
        raise UsageError(f"{format} has no precision {precision!r}: choose one of {', '.join(known)}")
    return precision or known[0]


def export(
    model: Transformer,
    tokenizer: Tokenizer | None,
    format: str,
    out: str | Path,
    precision: str | None = None,
    provenance: Provenance | None = None,
    license: str | None = None,
) -> Exported:
    """Write the folder `out` in one of `FORMATS`, whole or not at all, once it has been read back and compared.

    `provenance` and `license` are for the model card that a folder for the Hub has.

    >>> export(model, tokenizer, "gguf", "stories-gguf", "f16").comparisons         # doctest: +SKIP

    Raises:
        UsageError: an unknown format or precision, a model that it cannot express, or `out` holds other things.
        SetupError: a package is missing.
        CheckpointError: what was written scores stories otherwise than the model.
    """
    precision = check_format(format, precision)
    row, out = FORMATS[format], Path(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder to export to")
    check_vocabulary(model, tokenizer)
    notes = row.check(model.config, tokenizer)
    training = model.training
    model.eval()
    try:
        with atomic_folder(out.absolute()) as folder:  # which needs a name: `.` has none
            row.write(model, tokenizer, folder, precision)
            if row.card:
                card = model_card(model.config, tokenizer, out.name, provenance or Provenance(), license)
                (folder / CARD).write_text(card, encoding="utf-8", newline="\n")
            comparisons = {
                file: _compare(scores, model, tokenizer, file, ROUNDING[precision])
                for file, scores in row.read(folder, model.config, precision).items()
            }
            sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(_files(folder))}
            _check_replaceable(out, sizes)
    finally:
        model.train(training)
    prompt = f"{tokenizer.start if tokenizer else ''}Once upon a time"
    return Exported(out, precision, sizes, comparisons, notes, row.next(out, precision, prompt))


def told(tokenizer: Tokenizer | None, vocab_size: int, context: int) -> Iterable[Tensor]:
    """A few stories as tokens [1, T]; without a tokenizer, any tokens."""
    for index, story in enumerate(stories(seed=7, count=STORIES)):
        if tokenizer is None:
            generator = torch.Generator().manual_seed(index)
            ids = torch.randint(vocab_size, (LONGEST,), generator=generator).tolist()
        else:
            ids = [tokenizer.start_id, *tokenizer.encode(story)]
        yield torch.tensor([ids[: min(context, LONGEST)]])


@torch.inference_mode()
def _compare(scores: Scores, model: Transformer, tokenizer: Tokenizer | None, file: str, allowed: float) -> Comparison:
    ours, theirs = [], []
    for tokens_BT in told(tokenizer, model.config.vocab_size, model.config.context):
        ours.append(model(tokens_BT.to(model.device)).float().cpu().flatten(0, 1))
        theirs.append(scores(tokens_BT).float().flatten(0, 1))
    ours_NV, theirs_NV = torch.cat(ours), torch.cat(theirs)
    differences_NV = theirs_NV - ours_NV
    found = Comparison(
        difference=float(differences_NV.abs().max()),
        mean_difference=float(differences_NV.square().mean().sqrt()),
        spread=float(ours_NV.std()),
        agreement=float((ours_NV.argmax(-1) == theirs_NV.argmax(-1)).float().mean()),
    )
    if not found.mean_difference <= allowed * found.spread:  # and not nan either
        raise CheckpointError(
            f"{file} does not hold the model: its logits differ by {found.mean_difference:.3g} on average and by up to "
            f"{found.difference:.3g}, of a spread of {found.spread:.3g}, so nothing is kept; choose a finer precision, "
            "and if there is none, report this as a mistake of storylm's"
        )
    return found


def _check_replaceable(out: Path, written: dict[str, int]) -> None:
    """Raise `UsageError` where renaming would delete what an export did not write."""
    for path in _files(out):
        name = path.relative_to(out).as_posix()
        if (name == CARD and has_own_words(path)) or name not in written:
            raise UsageError(f"{out} holds {name}, which exporting there would delete: name a new folder")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())

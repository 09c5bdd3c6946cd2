"""Which stories are judged: those of a file, or those that a model tells now; told ones are kept for the next judge."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storylm.cli import options

if TYPE_CHECKING:
    from storylm.evaluation.telling import Manner
    from storylm.evaluation.text.metric import Told
    from storylm.evaluation.told import Stories
    from storylm.model.transformer import Transformer
    from storylm.text.tokenizer import Tokenizer

STORIES = "stories.json"


def plan(given: str, train: str | None, split: str | None, data: str | None) -> "Stories":
    """What `storylm evaluate --stories` means, before anything takes long.

    Raises:
        UsageError: neither a number nor a file of stories.
        DataError: a file or corpus that is not there.
        SetupError: the extra `eval` is not installed.
    """
    from storylm.config.errors import UsageError
    from storylm.config.files import expanded
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.telling import FILES, read_told
    from storylm.evaluation.text.judge import check_extra
    from storylm.evaluation.told import Stories

    check_extra()
    real = None if data is None else Corpus(data, split)
    known = None if train is None else Corpus(train, "train")
    if given.isdigit():
        if int(given) < 1:
            raise UsageError("--stories 0 are none: it is 1 or more, or a file")
        return Stories(int(given), None, real, known)
    if Path(given).suffix.lower() not in FILES:
        raise UsageError(f"--stories {given} is neither a number nor a file that ends in {' or '.join(FILES)}")
    told = read_told(expanded(given))
    return Stories(len(told), told, real, known)


@dataclass(frozen=True)
class Teller:
    """A model that tells `samples` stories from each beginning that comes with storylm, to be judged."""

    model: str
    samples: int
    manner: "Manner"
    tokenizer: str | None
    device: str


def stories_of(
    teller: Teller, out: Path | None, before_telling: Callable[[list[str]], None] = lambda beginnings: None
) -> "list[Told]":
    """The stories of a model; those that `out` has of the same model and settings are not told again.

    `before_telling` is given what the model is to begin with, if it is to tell.

    Raises:
        UsageError: `out` has stories of another model or settings.
    """
    from storylm.evaluation.instructions import beginnings
    from storylm.model.fingerprint import fingerprint

    network, words = options.load_model(teller.model, teller.tokenizer, teller.device)
    about = {
        "stories_of": teller.model,
        "weights": fingerprint(network),  # a run's best model may be another tomorrow
        "samples": teller.samples,
        **asdict(teller.manner),
    }
    there = _kept(out)
    if there is not None and there[0] == about:
        return there[1]
    if there is not None:
        raise _others(out, there[0])
    prompts = [beginning for beginning in beginnings() for _ in range(teller.samples)]
    before_telling(prompts)
    return _keep(_tell(network, words, prompts, teller.manner), about, out)


def stories_in(file: Path, out: Path | None) -> "list[Told]":
    """The stories of a file, which `out` keeps.

    Raises:
        UsageError: `out` has other ones.
    """
    from storylm.config.files import expanded
    from storylm.evaluation.telling import read_told

    told, there = read_told(expanded(file)), _kept(out)
    if there is not None and _words(there[1]) != _words(told):
        raise _others(out, there[0])
    return told if there is not None else _keep(told, {"stories_of": str(file)}, out)


def _words(told: "list[Told]") -> list[tuple[str, str]]:
    """What is judged of the stories; whether one was cut is not, and files of earlier days do not say."""
    return [(story.beginning, story.told) for story in told]


def _kept(out: Path | None) -> "tuple[dict[str, Any], list[Told]] | None":
    """What the stories in `out` are, and these; None where there are none."""
    from storylm.config.errors import DataError
    from storylm.evaluation.text.metric import Told

    path = None if out is None else out / STORIES
    if path is None or not path.is_file():
        return None
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        return there, [Told(row["prompt"], row["told"], row.get("cut")) for row in there.pop("stories")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error!r}): delete it, or choose another --out") from error


def _keep(told: "list[Told]", about: dict[str, Any], out: Path | None) -> "list[Told]":
    from storylm.config.files import write_text

    if out is not None:
        content = {**about, "stories": [story.to_json() for story in told]}
        write_text(out / STORIES, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return told


def _others(out: Path | None, about: dict[str, Any]) -> Exception:
    from storylm.config.errors import UsageError

    return UsageError(f"{out} has other stories ({about.get('stories_of')}, or told otherwise): choose another --out")


def _tell(network: "Transformer", words: "Tokenizer", prompts: list[str], manner: "Manner") -> "list[Told]":
    from storylm.cli.counting import counting
    from storylm.evaluation.telling import tell_endings

    with counting("telling", len(prompts)) as live:
        return tell_endings(network, words, prompts, manner, progress=lambda done: live("telling", done, len(prompts)))

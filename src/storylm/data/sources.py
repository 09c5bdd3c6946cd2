"""Where stories come from: files, folders, the Hub, the built-in grammar.

`open_source` takes one of

    tinystories                               a named corpus: a row of `CORPORA`
    grammar                                   the built-in stories; also grammar:SEED, grammar?stories=5000&seed=1
    stories.txt.xz                            a file: .txt .jsonl .json .parquet, also .gz .xz .zst, and .tar of them
    stories/                                  a folder of such files; names with train, valid or test give the splits
    owner/name                                a dataset of the Hugging Face Hub

and after a `?` how to read it: `?column=body`, `?separator=blank` (or endoftext, line), `?files=en/*.parquet`,
`?revision=v2`. A local file or folder named like a corpus is meant by `./tinystories`.
"""

import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import parse_qsl

from storylm.config.errors import DataError, UsageError
from storylm.data import hub
from storylm.data.corpora import CORPORA
from storylm.data.formats import FORMATS, Reading, can_split, format_of
from storylm.data.own_folders import kind_of
from storylm.data.parts import FilePart, GrammarPart, LocalFile, Part, Source
from storylm.data.text_records import SEPARATORS

PIECE_BYTES = 64 * 2**20
"""Larger files are read as several parts, if their format allows."""
GRAMMAR_STORIES, GRAMMAR_VALIDATION, GRAMMAR_PART = 20_000, 500, 2_000

_FILE_OPTIONS = ("column", "separator", "files")
_GRAMMAR_OPTIONS = ("stories", "validation", "seed")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SPLITS = {"train": "train", "training": "train", "test": "test"} | dict.fromkeys(
    ("valid", "validation", "val", "dev"), "validation"
)
_NOT_STORIES = {"readme", "license", "licence", "notice", "requirements", "dataset_infos"}


def open_source(spec: str) -> Source:
    """The corpus that `spec` names (see the top of this file). Reads names and sizes, no stories yet.

    >>> open_source("grammar?stories=5000&validation=100&seed=1").splits
    ('train', 'validation')

    Raises:
        DataError: no such file, corpus or dataset, or nothing in it.
        UsageError: an option that is not understood.
        SetupError: the Hub cannot be reached.
    """
    if spec not in CORPORA and spec != "grammar" and (path := existing(spec)):
        return _local(spec, path, {})
    name, _, query = spec.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    kind, _, seed = name.partition(":")
    if kind == "grammar":
        return _grammar(spec, {"seed": seed, **options} if seed else options)
    if name in CORPORA:
        return _corpus(name, options)
    if path := existing(name):
        return _local(spec, path, options)
    if _is_of_hub(name):
        return _hub(spec, name, options)
    raise DataError(f"no file, folder or corpus {name!r}{_did_you_mean(name)}")


def check_source(spec: str) -> None:
    """Raise what `open_source` would for what cannot be here; what is here, or may be on the Hub, is not looked at."""
    name = spec.partition("?")[0]
    if not (name in CORPORA or _is_of_hub(name) or existing(spec) or existing(name)):
        open_source(spec)


def _is_of_hub(name: str) -> bool:
    return bool(_HUB_NAME.fullmatch(name)) and format_of(name) is None and not Path(name).parent.is_dir()


_NO_PATH = (OSError, RuntimeError, ValueError)  # too long a name, a `~` of nobody, a NUL


def existing(name: str) -> Path | None:
    """The file or folder of this name, if there is one.

    >>> existing("~nobody/stories") is existing("x" * 5000) is None
    True
    """
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except _NO_PATH:
        return None


def _did_you_mean(name: str) -> str:
    names = [*CORPORA, "grammar"]
    try:
        beside = [str(entry) for entry in Path(name).expanduser().parent.iterdir()]
    except _NO_PATH:
        beside = []
    close = get_close_matches(name.lower(), names, 1, 0.6) or get_close_matches(name, beside, 1, 0.8)
    return f"; did you mean {close[0]!r}?" if close else f": the named corpora are {', '.join(names)}"


def _checked(options: dict[str, str], allowed: tuple[str, ...], spec: str) -> dict[str, str]:
    for option in options:
        if option not in allowed:
            close = get_close_matches(option, allowed, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f": it can be {', '.join(allowed)}"
            raise UsageError(f"unknown option {option!r} in {spec!r}{hint}")
    if options.get("separator", SEPARATORS[0]) not in SEPARATORS:
        raise UsageError(f"unknown separator {options['separator']!r} in {spec!r}: use {', '.join(SEPARATORS)}")
    return options


def _local(spec: str, path: Path, options: dict[str, str]) -> Source:
    options = _checked(options, _FILE_OPTIONS, spec)
    if not path.is_dir():
        if format_of(path.name) is None:
            raise DataError(f"{path} is of no known format: known are {' '.join(FORMATS)}, also .gz .xz .zst")
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty")
        return Source(spec, {"train": _pieces(LocalFile.of(path), _reading(options))})
    if kind := kind_of(path):
        raise UsageError(f"{path} holds {kind}, not stories to prepare: name the stories it was made from")
    names = sorted(_files(path))
    chosen = [name for name in names if fnmatchcase(name, options.get("files", "*")) and is_story_file(name)]
    if not chosen:
        raise DataError(
            f"no stories in {path}: no files named {' '.join('*' + kind for kind in FORMATS)} (also .gz .xz .zst)"
        )
    return _by_split(spec, ((name, LocalFile.of(path / name)) for name in chosen), options)


def _files(folder: Path) -> Iterator[str]:
    """All files in a folder and below; hidden ones and what storylm made are passed over."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and not kind_of(Path(where, name))]
        for file in (Path(where, name) for name in names if not name.startswith(".")):
            if file.is_file():
                yield file.relative_to(folder).as_posix()


def _hub(spec: str, repo: str, options: dict[str, str]) -> Source:
    options = _checked(options, (*_FILE_OPTIONS, "revision"), spec)
    wanted = options.get("files", "*")
    revisions = [options.get("revision")]
    if revisions == [None]:
        # Where a dataset's own files are of other kinds (CSV, a script), the Hub keeps a copy of it in parquet.
        revisions.append("refs/convert/parquet")
    for revision in revisions:
        try:
            listed = hub.list_files(repo, revision)
        except DataError:
            if revision == revisions[0]:
                raise
            continue
        files = {file.path: file for file in listed if fnmatchcase(file.path, wanted) and is_story_file(file.path)}
        # Often the same stories in several formats: take the first kind there is.
        for kind in (".parquet", ".jsonl", ".ndjson", ".json", ".txt", ".tar"):
            alike = [(path, file) for path, file in files.items() if (format_of(path) or "")[0] == kind]
            if alike:
                return _by_split(spec, alike, options)
    raise DataError(f"dataset {repo} has no files of stories{' like ' + wanted if wanted != '*' else ''}")


def _corpus(name: str, options: dict[str, str]) -> Source:
    corpus = CORPORA[name]
    options = _checked(options, ("revision",), name)
    files = hub.list_files(corpus.repo, options.get("revision"))
    by_split = {}
    for split, (pattern, rows) in corpus.files.items():
        matching = [file for file in files if fnmatchcase(file.path, pattern)]
        if not matching:
            raise DataError(f"{name}: no file {pattern} in dataset {corpus.repo} (if offline: not in the cache)")
        by_split[split] = tuple(part for file in matching for part in _pieces(file, Reading(rows=rows)))
    return Source(name, by_split)


def _grammar(spec: str, options: dict[str, str]) -> Source:
    given = _checked(options, _GRAMMAR_OPTIONS, spec)
    numbers = {"stories": GRAMMAR_STORIES, "validation": GRAMMAR_VALIDATION, "seed": 0}
    for option, value in given.items():
        if not value.isdecimal():
            raise UsageError(f"{option}={value!r} in {spec!r} is not a whole number")
        numbers[option] = int(value)
    if not numbers["stories"]:
        raise DataError(f"{spec!r} has no stories")
    # Even seeds for train, odd ones for validation: no two specs share a story sequence across the two.
    counts = {
        "train": (2 * numbers["seed"], numbers["stories"]),
        "validation": (2 * numbers["seed"] + 1, numbers["validation"]),
    }
    return Source(
        spec,
        {
            split: tuple(
                GrammarPart(seed, start, min(GRAMMAR_PART, count - start)) for start in range(0, count, GRAMMAR_PART)
            )
            for split, (seed, count) in counts.items()
            if count
        },
    )


def is_story_file(name: str) -> bool:
    """Whether a file of this name holds stories, by its ending; not README.txt and the like."""
    return format_of(name) is not None and Path(name).name.lower().split(".")[0] not in _NOT_STORIES


def split_of(name: str) -> str:
    """The split that a file's path tells; train where it tells none.

    >>> split_of("TinyStoriesV2-GPT4-valid.txt"), split_of("dev/0.jsonl"), split_of("stories.txt")
    ('validation', 'validation', 'train')
    """
    words = re.findall("[a-z]+", name.lower())
    return next((_SPLITS[word] for word in reversed(words) if word in _SPLITS), "train")


def _by_split(spec: str, files: Iterable[tuple[str, "LocalFile | hub.HubFile"]], options: dict[str, str]) -> Source:
    by_split: dict[str, tuple[Part, ...]] = {"train": (), "validation": (), "test": ()}
    for name, file in files:
        by_split[split_of(name)] += _pieces(file, _reading(options))
    return Source(spec, {split: parts for split, parts in by_split.items() if parts})


def _reading(options: dict[str, str]) -> Reading:
    return Reading(options.get("column"), options.get("separator"))


def _pieces(file: "LocalFile | hub.HubFile", reading: Reading) -> tuple[FilePart, ...]:
    large = can_split(file.name) and file.size is not None and (reading.rows is None or reading.rows[1] is None)
    pieces = -(-file.size // PIECE_BYTES) if large and file.size else 1
    return tuple(FilePart(file, reading, piece, pieces) for piece in range(pieces))

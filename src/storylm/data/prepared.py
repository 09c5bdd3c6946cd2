"""`Prepared`: a folder of tokenized stories, ready to train on.

manifest.json       written last: what was prepared, from what and how; sizes and SHA-256 of all other files
cleaning.json       what cleaning did, for train and validation
tokenizer/          tokenizer.json, tokenizer_config.json
train/*.tokens      shards (`data.shards`)
validation/*.tokens
validation.jsonl    the cleaned validation stories as text, with their orders, for bits per byte
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from storylm.config.errors import DataError
from storylm.config.files import sha256, write_text
from storylm.data.cleaning_report import CleaningReport
from storylm.data.instruct import Ordered
from storylm.data.shards import Shard, TokenSet
from storylm.text.tokenizer import Tokenizer

KIND = "prepared stories"
VERSION = 1
MANIFEST, CLEANING, TOKENIZER, VALIDATION_TEXT = "manifest.json", "cleaning.json", "tokenizer", "validation.jsonl"
SPLITS = ("train", "validation")
ORDER = "order"  # beside "text" in a line of validation.jsonl


class Prepared:
    """Tokenized stories. `manifest` is the content of manifest.json; `load` makes sure that the rest fits it.

    >>> prepared = Prepared.load("stories")                                     # doctest: +SKIP
    >>> prepared.tokens("train"), prepared.split("train").window(0, 5)          # doctest: +SKIP
    (2041234, array([ 413,   12,  270,  300,  257]))
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]):
        self.folder, self.manifest = folder, manifest
        self._splits = {split: TokenSet(self._shards(split)) for split in SPLITS}

    @classmethod
    def load(cls, folder: str | Path, verify: bool = False) -> "Prepared":
        """Open a prepared folder. Sizes and headers are always checked, with `verify` all bytes by their SHA-256.

        Raises:
            DataError: it is none, was not finished, or is damaged.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise DataError(f"{folder} holds no prepared stories: run `storylm prepare SOURCE --out {folder}`")
        if manifest["version"] != VERSION:
            raise DataError(
                f"{folder} is of format {manifest['version']}, this storylm reads {VERSION}: prepare the stories again"
            )
        try:
            for name, entry in manifest["files"].items():
                _check_file(folder / name, entry, verify)
            return cls(folder, manifest)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{folder / MANIFEST} is damaged ({error!r}): delete {folder} and prepare the stories again"
            ) from error

    def _shards(self, split: str) -> list[Shard]:
        shards = [Shard(self.folder / name) for name in self.manifest["splits"][split]["shards"]]
        for shard in shards:
            if shard.header.tokenizer != self.manifest["tokenizer"]["fingerprint"]:
                raise DataError(f"{shard.path} was made with another tokenizer: prepare the stories again")
        return shards

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What made the tokens. Raises `DataError` where tokenizer/ is not what the manifest says."""
        tokenizer = Tokenizer.load(self.folder / TOKENIZER)
        if tokenizer.fingerprint != self.manifest["tokenizer"]["fingerprint"]:
            raise DataError(f"{self.folder / TOKENIZER} is not what made the tokens: prepare the stories again")
        return tokenizer

    def split(self, name: str) -> TokenSet:
        """The tokens of `train` or `validation`."""
        return self._splits[name]

    def stories(self, split: str) -> int:
        """How many stories a split has."""
        return self.manifest["splits"][split]["stories"]

    def tokens(self, split: str) -> int:
        """How many tokens a split has, special ones included."""
        return self.manifest["splits"][split]["tokens"]

    def bytes(self, split: str) -> int:
        """How many bytes of UTF-8 the cleaned stories of a split have, and their orders."""
        return self.manifest["splits"][split]["bytes"]

    def validation_stories(self) -> list[str]:
        """The cleaned validation stories as text; those that have an order are `Ordered`."""
        with open(self.folder / VALIDATION_TEXT, encoding="utf-8") as file:
            rows = map(json.loads, file)
            return [Ordered(row["text"], row[ORDER]) if ORDER in row else row["text"] for row in rows]

    def report(self, split: str) -> CleaningReport:
        """What cleaning did to a split."""
        return CleaningReport.from_json(json.loads((self.folder / CLEANING).read_text(encoding="utf-8"))[split])


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a prepared folder; None where there is none (runs and checkpoints have one of their own).

    >>> read_manifest(Path("no such folder")) is None
    True
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return manifest if isinstance(manifest, dict) and manifest.get("kind") == KIND else None


def file_entry(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Finish a prepared folder: from here on it is one."""
    content = {"kind": KIND, "version": VERSION, **manifest}
    write_text(folder / MANIFEST, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _check_file(path: Path, entry: dict[str, Any], verify: bool) -> None:
    if not path.is_file():
        raise DataError(f"{path} is missing: delete {path.parent} and prepare the stories again")
    if path.stat().st_size != entry["size"]:
        raise DataError(
            f"{path} is damaged: it has {path.stat().st_size:,} bytes and should have {entry['size']:,}; "
            "prepare the stories again"
        )
    if verify and sha256(path) != entry["sha256"]:
        raise DataError(f"{path} is damaged: its bytes are not those that were written; prepare the stories again")

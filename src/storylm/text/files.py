"""Tokenizers as they lie about: a name, a tokenizer.json, a SentencePiece `.model`, a folder, a Hub repository."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import AddedToken

from storylm.config.errors import DataError, SetupError, UsageError
from storylm.config.files import expanded
from storylm.text.bytelevel import ENDOFTEXT, byte_level_bpe, bytes_tokenizer
from storylm.text.sentencepiece import sentencepiece_bpe

JSON, CONFIG, MODEL, VOCABULARY, MERGES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
ON_THE_HUB = {"gpt2": "gpt2", "mistral": "mistralai/Mistral-7B-v0.1"}
"""Names that stand for repositories of the Hub."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = [JSON, CONFIG, MODEL, VOCABULARY, MERGES, "special_tokens_map.json", "config.json"]
# (start, end) where no file names them: GPT-2 and its kin; Llama, Mistral; Llama 3.
_USUAL_TOKENS = ((ENDOFTEXT, ENDOFTEXT), ("<s>", "</s>"), ("<|begin_of_text|>", "<|end_of_text|>"))


class Found(NamedTuple):
    """A tokenizer with the tokens before and after a story; where they are the same one, it parts stories."""

    tokenizer: tokenizers.Tokenizer
    start: str
    end: str


def find(source: str) -> Found:
    """The tokenizer that `source` names: a file or folder if there is one of that name. See `Tokenizer.load`."""
    path = expanded(source)
    if _exists(path):
        return _from_folder(path) if path.is_dir() else _from_file(path)
    if source == "bytes":
        return Found(bytes_tokenizer(), ENDOFTEXT, ENDOFTEXT)
    if source == "bpe":
        raise UsageError("tokenizer 'bpe' has to be trained on stories first: storylm tokenizer SOURCE --out FOLDER")
    is_file_name = path.suffix in (".json", ".model") or path.parent.is_dir()
    if source in ON_THE_HUB or (_HUB_NAME.fullmatch(source) and not is_file_name):
        return _from_hub(ON_THE_HUB.get(source, source))
    names = ["bytes", *ON_THE_HUB]
    close = get_close_matches(source.lower(), names, 1, 0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"the named ones are {', '.join(names)}"
    raise DataError(f"no tokenizer {source!r}: there is no such file or folder; {hint}")


def has_tokenizer(folder: Path) -> bool:
    """Whether there are files of a tokenizer in `folder`, sound or not."""
    return any((folder / name).is_file() for name in (JSON, MODEL)) or (folder / VOCABULARY).is_file()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the file system has
        return False


def _from_hub(repo: str) -> Found:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise SetupError("the Hub needs huggingface_hub: pip install 'storylm[hub]'") from error
    try:
        folder = snapshot_download(repo, allow_patterns=_HUB_FILES)
    except errors.GatedRepoError as error:
        raise SetupError(f"{repo!r} is gated: accept its terms on its page, then run `hf auth login`") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise DataError(f"no repository {repo!r} on the Hub, nor such a folder (private: `hf auth login`)") from error
    except Exception as error:  # its kinds of network errors change from version to version
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SetupError(
            f"cannot get tokenizer {repo!r} from the Hub ({reason}): check the network, or give a local folder or"
            " tokenizer.json"
        ) from error
    return _from_folder(Path(folder), repo)


def _from_folder(folder: Path, name: str = "") -> Found:
    if (folder / JSON).is_file():
        return _from_file(folder / JSON)
    if (folder / VOCABULARY).is_file() and (folder / MERGES).is_file():
        return _with_ends(_gpt2_files(folder), folder)
    if (folder / MODEL).is_file():
        tokenizer, _ = _sentencepiece(folder / MODEL)
        return _with_ends(tokenizer, folder)
    raise DataError(f"no tokenizer in {name or folder}: it has neither {JSON} nor {VOCABULARY} + {MERGES} nor {MODEL}")


def _from_file(path: Path) -> Found:
    if path.suffix == ".json":
        with _explained(f"{path} is not a tokenizer.json, or damaged"):
            tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        # The files beside a tokenizer.json belong to it; those beside one of another name need not.
        return _with_ends(tokenizer, path.parent if path.name == JSON else None)
    if path.suffix == ".model":
        tokenizer, start = _sentencepiece(path)
        # llama2.c parts stories by BOS alone: its models have never seen EOS.
        return Found(tokenizer, start, start)
    raise DataError(f"{path} is no tokenizer: give a tokenizer.json, a SentencePiece .model or a folder that has one")


def _gpt2_files(folder: Path) -> tokenizers.Tokenizer:
    with _explained(f"{folder / VOCABULARY} and {MERGES} are not a tokenizer, or damaged"):
        vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        lines = (folder / MERGES).read_text(encoding="utf-8").split("\n")
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        merges = [(left, right) for left, right in pairs]
        for left, right in merges:
            if not {left, right, left + right} <= vocabulary.keys():
                raise ValueError(f"merge {left} {right} is of tokens that are not in the vocabulary")
        return byte_level_bpe(vocabulary, merges)


def _sentencepiece(path: Path) -> tuple[tokenizers.Tokenizer, str]:
    with _explained(f"{path} cannot be read as a SentencePiece BPE model"):
        return sentencepiece_bpe(path.read_bytes())


@contextmanager
def _explained(problem: str) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # `tokenizers` raises bare Exceptions, and Rust's panics, which are not even that
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{problem}: {reason}") from error


def _with_ends(tokenizer: tokenizers.Tokenizer, folder: Path | None) -> Found:
    """Find out which tokens begin and end a story, and see to it that they are special."""
    vocabulary = tokenizer.get_vocab()
    ends = next((pair for pair in _named_ends(tokenizer, folder) if set(pair) <= vocabulary.keys()), None)
    if ends is None:
        where = folder or "the file"
        raise DataError(f"cannot tell which token ends a story in {where}: name it as eos_token in {CONFIG}")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in dict.fromkeys(ends)])
    tokenizer.encode_special_tokens = True
    for token in ends:
        if vocabulary[token] in tokenizer.encode(token, add_special_tokens=False).ids:
            raise DataError(f"the tokenizer in {folder} takes {token!r} in a story for its end: it is not supported")
    return Found(tokenizer, *ends)


def _named_ends(tokenizer: tokenizers.Tokenizer, folder: Path | None) -> Iterator[tuple[str, str]]:
    beside = [folder / name for name in (CONFIG, "special_tokens_map.json", "config.json")] if folder else []
    for path in beside:
        settings = _read_settings(path)
        for suffix in ("token", "token_id"):
            end = _token(tokenizer, settings.get(f"eos_{suffix}"))
            start = _token(tokenizer, settings.get(f"bos_{suffix}"))
            if end or start:
                yield start or end, end or start
    yield from _USUAL_TOKENS


def _token(tokenizer: tokenizers.Tokenizer, value: Any) -> str:
    """A token as config files name it: its text, its text among other properties, its id, or several ids."""
    if isinstance(value, dict):
        value = value.get("content")
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, int) and value >= 0:
        value = tokenizer.id_to_token(value)
    return value if isinstance(value, str) else ""


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON, or damaged: {error}") from error
    return settings if isinstance(settings, dict) else {}

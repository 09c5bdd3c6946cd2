"""`Tokenizer`: text to ids and back, on Hugging Face's `tokenizers`.

A story in a stream of tokens stands between `start_id` and `end_id`; where the two are one token, as in GPT-2's
`<|endoftext|>`, it parts stories and stands before the first. No text of a story ever becomes such a token.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from storylm.config.errors import DataError
from storylm.config.files import write_text
from storylm.text.bytelevel import is_byte_level
from storylm.text.encoders import Encode, fastest_encoder
from storylm.text.files import CONFIG, JSON, find
from storylm.text.pieces import Pieces


class Tokenizer:
    """A vocabulary and how text is cut into it. Picklable; cheap to make.

    `start`, `end`: the tokens before and after a story.

    >>> tokenizer = Tokenizer.load("bytes")
    >>> tokenizer.encode("Hi <|endoftext|>")[:3], tokenizer.decode([72, 105, 256]), tokenizer.story_ids([72, 105])
    ([72, 105, 32], 'Hi', [72, 105, 256])
    """

    name: str
    vocab_size: int
    """One more than the largest id."""
    start_id: int
    end_id: int
    special_ids: frozenset[int]
    """Ids that no text becomes and that decode to nothing."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, start: str, end: str, name: str):
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self.name, self.start, self.end = name, start, end
        self.start_id, self.end_id = vocabulary[start], vocabulary[end]
        self.vocab_size = max(vocabulary.values()) + 1
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # special tokens in text are text; not a part of tokenizer.json
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(id for id, token in added.items() if token.special)
        self._tokenizer = tokenizer
        assert {self.start_id, self.end_id} <= self.special_ids

    @staticmethod
    def load(source: str | Path) -> "Tokenizer":
        """The tokenizer that `source` names:

            bytes                   256 bytes and an end token
            gpt2, mistral           of the Hub, if there is no file or folder of that name
            tokenizer.json          Hugging Face's format; tokenizer_config.json beside it names start and end
            tok512.model            a SentencePiece BPE model, used as llama2.c does: BOS parts stories
            runs/x/checkpoints/best a folder with one of these, or with GPT-2's vocab.json and merges.txt
            owner/name              a repository of the Hub

        Raises:
            DataError: there is none, it is damaged, or it does not tell which token ends a story.
            UsageError: "bpe", which is trained on stories (`train_bpe`).
        """
        return Tokenizer(*find(str(source)), name=str(source))

    @cached_property
    def lossless(self) -> bool:
        """Whether `decode(encode(text)) == text` for any text: byte-level ones.

        Others lose something: SentencePiece's read "▁" as a space, and llama2.c's makes one space of several.
        """
        return is_byte_level(self.to_json())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, as hex, of what decides which ids a story becomes: tokenizer.json in canonical form, start, end."""
        spec = [self.to_json(), self.start_id, self.end_id]
        return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of a text; never special ones, so a literal `<|endoftext|>` is cut into several like any text.

        Raises:
            DataError: the text has a lone surrogate, which no file can hold.
        """
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError:
            _refuse_surrogates([text])
            raise

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text (uint32), in order: what `encode` gives, by the fastest encoder there is.

        Raises:
            DataError: a text has a lone surrogate.
        """
        try:
            return self._encoder[1](texts)
        except (TypeError, UnicodeEncodeError):
            _refuse_surrogates(texts)
            raise

    def spans(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Which characters of its text each token stands for: [N, 2], from and to, for every text.

        A character of several tokens is in the span of each; a token that no character stands for has an empty one.

        >>> Tokenizer.load("bytes").spans(["né"])[0].tolist()
        [[0, 1], [1, 2], [1, 2]]

        Raises:
            DataError: a text has a lone surrogate.
        """
        _refuse_surrogates(texts)
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(one.offsets, np.int64).reshape(-1, 2) for one in found]

    @property
    def encoder(self) -> str:
        """What `encode_batch` uses: "bytes", "gigatoken" or "tokenizers"."""
        return self._encoder[0]

    @cached_property
    def _encoder(self) -> tuple[str, Encode]:
        return fastest_encoder(self._tokenizer)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of some ids, special ones left out; U+FFFD for bytes that are not, or not yet, a character."""
        return self._tokenizer.decode(np.asarray(ids, np.int64).tolist(), skip_special_tokens=True)

    def token_text(self, id: int) -> str:
        """The text of one token as it stands within a story, with its space; special ones by their names."""
        if id in self.special_ids:
            return self.end if id == self.end_id else self.start
        before = self.encode("a")  # some drop the space of a first word
        return self.decode([*before, id])[len(self.decode(before)) :]

    @cached_property
    def pieces(self) -> Pieces:
        """The tokens one by one: bytes and names."""
        return Pieces(self)

    def piece(self, id: int) -> str:
        """How the vocabulary writes a token: "Ġthe", "▁the", "<0xE2>"; "" where there is no such id."""
        return self._tokenizer.id_to_token(id) or ""

    def has_piece(self, piece: str) -> bool:
        """Whether the vocabulary has a token that is written so."""
        return self._tokenizer.token_to_id(piece) is not None

    def story_ids(self, ids: Sequence[int]) -> list[int]:
        """A story's ids as they stand in a stream: with the end token, and the start token where it is another."""
        return [*ids, self.end_id] if self.start_id == self.end_id else [self.start_id, *ids, self.end_id]

    def to_json(self) -> dict[str, Any]:
        """What tokenizer.json says: the model, the special tokens, and the steps before and after."""
        return json.loads(self._tokenizer.to_str())

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `load` and transformers' AutoTokenizer read."""
        model: Any = self._tokenizer.model
        unknown = getattr(model, "unk_token", None)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",  # the name that transformers 4 and 5 both know
            "bos_token": self.start,
            "eos_token": self.end,
            **({"unk_token": unknown} if unknown else {}),
            "clean_up_tokenization_spaces": False,  # it would take the space out of "yes ."
        }
        write_text(Path(folder) / JSON, self._tokenizer.to_str())
        write_text(Path(folder) / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._tokenizer.to_str(), self.start, self.end, self.name)

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, vocab_size={self.vocab_size}, start={self.start!r}, end={self.end!r})"


def _rebuild(spec: str, start: str, end: str, name: str) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(spec), start, end, name)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse_surrogates(texts: Sequence[str]) -> None:
    for text in texts:
        if found := _SURROGATE.search(text):
            raise DataError(
                f"text has a lone surrogate, U+{ord(found[0]):04X}, at character {found.start()}: it comes of bytes"
                " that are not UTF-8; remove it, or clean the text (`storylm prepare` does)"
            ) from None

"""SentencePiece BPE models, as llama2.c's `tok512.model`, as a `tokenizers` one with the same ids.

The file is a protobuf message of which a few fields matter (sentencepiece_model.proto), so they are read right here:
the `sentencepiece` package is needed by the tests only, which hold the ids against its own.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, processors

SPACE = "▁"
"""What SentencePiece writes for a space, and before the first word."""


class Kind(IntEnum):
    """What a piece is: `SentencePiece.Type` of the message."""

    NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    kind: Kind


def sentencepiece_bpe(model: bytes) -> tuple[tokenizers.Tokenizer, str]:
    """The tokenizer of a SentencePiece `.model` file's contents, and the token that begins a text. Piece i is id i.

    >>> tokenizer, start = sentencepiece_bpe(Path("tok512.model").read_bytes())     # doctest: +SKIP
    >>> tokenizer.encode("Once upon a time").tokens                                 # doctest: +SKIP
    ['<s>', '▁Once', '▁upon', '▁a', '▁time']

    Raises:
        ValueError: not such a file, or of a kind other than BPE with bytes for unknown characters.
    """
    pieces, trainer, normalizer = _parse(model)
    _check(pieces, trainer, normalizer)
    ids = {piece.text: id for id, piece in enumerate(pieces)}
    unknown = next((piece.text for piece in pieces if piece.kind == Kind.UNKNOWN), None)
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=ids, merges=_merges(pieces), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    # In the message's defaults these three are on; llama2.c's models have them on.
    prefix, squeeze = normalizer.get(_ADD_PREFIX, 1), normalizer.get(_SQUEEZE_SPACES, 1)
    steps: list[normalizers.Normalizer] = []
    if squeeze:  # spaces only, not tabs and line ends; at the end of the text its own sign for them too
        ends = Regex(rf"\A +|[ {SPACE}]+\z")
        steps += [normalizers.Replace(ends, ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if prefix:
        steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if prefix else [])
    )
    special = [piece.text for piece in pieces if piece.kind in (Kind.CONTROL, Kind.UNKNOWN)]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    start = pieces[trainer.get(_START_ID, 1)].text
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, ids[start])]
    )
    return tokenizer, start


def _merges(pieces: list[Piece]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, best score first: SentencePiece merges by the score of the result.

    Between results of like score (a piece and itself, made of other halves) it takes the leftmost, as BPE does.
    """
    usable = {piece.text: piece for piece in pieces if piece.kind == Kind.NORMAL}
    merges = []
    for piece in sorted(usable.values(), key=lambda piece: -piece.score):  # stable: like scores by id
        halves = ((piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text)))
        merges += [(left, right) for left, right in halves if left in usable and right in usable]
    return merges


def _check(pieces: list[Piece], trainer: dict[int, int], normalizer: dict[int, int]) -> None:
    if not pieces:
        raise ValueError("no pieces in it")
    if trainer.get(_MODEL_TYPE, 1) != _BPE:
        raise ValueError("its model is not BPE, the only kind that is read")
    if sum(piece.kind == Kind.BYTE for piece in pieces) != 256:
        raise ValueError("it has no 256 byte pieces: characters it has not seen would be lost")
    if any(piece.kind in (Kind.USER_DEFINED, Kind.UNUSED) for piece in pieces):
        raise ValueError("it has user-defined or unused pieces, which are not supported")
    if normalizer.get(_CHARACTER_MAP) or not normalizer.get(_ESCAPE_SPACES, 1) or trainer.get(_SPACE_AS_SUFFIX):
        raise ValueError("it changes the text before encoding (normalization other than identity): not supported")
    start = trainer.get(_START_ID, 1)
    if not (0 <= start < len(pieces) and pieces[start].kind == Kind.CONTROL):
        raise ValueError("it has no token that begins a text (BOS)")


# Field numbers of sentencepiece_model.proto.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _KIND = 1, 2, 3
_MODEL_TYPE, _BPE, _SPACE_AS_SUFFIX, _START_ID = 3, 2, 24, 41
_CHARACTER_MAP, _ADD_PREFIX, _SQUEEZE_SPACES, _ESCAPE_SPACES = 2, 3, 4, 5


def _parse(model: bytes) -> tuple[list[Piece], dict[int, int], dict[int, int]]:
    """The pieces, and the whole-number fields of the trainer's and the normalizer's settings (of bytes: how many)."""
    pieces, settings = [], {_TRAINER: {}, _NORMALIZER: {}}
    try:
        for number, value in _fields(model):
            if number == _PIECES and isinstance(value, bytes):
                fields: dict[int, Any] = dict(_fields(value))
                (score,) = struct.unpack("<f", fields.get(_SCORE, bytes(4)))
                pieces.append(Piece(fields[_TEXT].decode(), score, Kind(fields.get(_KIND, 1))))
            elif number in settings and isinstance(value, bytes):
                settings[number] = {key: len(item) if isinstance(item, bytes) else item for key, item in _fields(value)}
    except (IndexError, KeyError, AttributeError, TypeError, ValueError, struct.error) as error:
        raise ValueError("not a SentencePiece model") from error
    return pieces, settings[_TRAINER], settings[_NORMALIZER]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The (number, value) pairs of a protobuf message: whole numbers as int, all else as bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        number, wire = key >> 3, key & 7
        if wire == 0:
            yield number, varint()
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"wire type {wire}")
        length = {1: 8, 5: 4}.get(wire) or varint()
        if at + length > len(message):
            raise ValueError("cut short")
        yield number, message[at : at + length]
        at += length

"""Words, sentences, names and speech in a story, by rule. What is judged by them is judged by the same everywhere.

A **word** is a run of letters, with apostrophes inside. A **sentence** ends at . ! ? or an ellipsis, and the
quotation marks after it, before a space or line end; a line end between paragraphs ends one too. A **name** is a
word that in this story is capitalised where no sentence and no speech begins, and never written small; every
mention of it counts, at the beginning of a sentence too ("Mom" is a name, "I" is none). **Speech** is what stands
between double quotation marks, straight or curly, within a paragraph.
"""

import re
from functools import lru_cache

Span = tuple[int, int]

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE = re.compile(r"[^\s].*?(?:[.!?…]+[\"”'’)]*(?=\s|$)|(?=\n)|$)", re.DOTALL)
_SPEECH = re.compile(r"[\"“”][^\"“”\n]*(?:[\"“”]|(?=\n)|$)")
_BEGINS = re.compile(r"(?:^|[.!?…:\"“”‘\n]|^['’]|\s['’]|--|—)\s*$")
_PRONOUN = re.compile(r"I(?:['’].*)?$")


def word_spans(text: str) -> list[Span]:
    """Where the words are."""
    return [found.span() for found in _WORD.finditer(text)]


def words(text: str) -> list[str]:
    """The words, in small letters.

    >>> words("Lily's cat said, 'Don't!'")
    ["lily's", 'cat', 'said', "don't"]
    """
    return [found.replace("’", "'") for found in _WORD.findall(text.lower())]


def sentence_spans(text: str) -> list[Span]:
    """Where the sentences are, without the space between them."""
    return [found.span() for found in _SENTENCE.finditer(text)]


def sentences(text: str) -> list[str]:
    """The sentences.

    >>> sentences('"Stop!" said Tom. It rained\\nThe end.')
    ['"Stop!"', 'said Tom.', 'It rained', 'The end.']
    """
    return [text[first:end] for first, end in sentence_spans(text)]


def speech_spans(text: str) -> list[Span]:
    """Where someone speaks, the quotation marks included."""
    return [found.span() for found in _SPEECH.finditer(text)]


@lru_cache(maxsize=256)
def name_spans(text: str) -> tuple[Span, ...]:
    """Where names are mentioned; a possessive ending does not belong to the name.

    >>> text = "Tom saw Lily. Lily's dog barked. The dog ran to Tom."
    >>> [text[first:end] for first, end in name_spans(text)]
    ['Tom', 'Lily', 'Lily', 'Tom']
    """
    spans = [(first, first + len(_bare(text[first:end]))) for first, end in word_spans(text)]
    small = {text[first:end] for first, end in spans if text[first:end].islower()}
    names = {
        word
        for first, end in spans
        if (word := text[first:end])[0].isupper()
        and not _PRONOUN.match(word)
        and word.lower() not in small
        and not _BEGINS.search(text[max(0, first - 8) : first] if first > 8 else "\n" + text[:first])
    }
    return tuple(span for span in spans if text[slice(*span)] in names)


def _bare(word: str) -> str:
    return re.sub(r"['’]s?$", "", word)

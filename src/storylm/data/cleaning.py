"""Which stories are kept, and in what shape.

Two stages, so that the slow one can run in many processes:

1. `clean_record` (on `clean_text`) looks at one story by itself: pure, in any process, in any order.
2. `duplicates.DuplicateFilter` looks at fingerprints in the order of the source, in one process: so the result
   does not depend on how many processes did stage 1.

`Cleaner` does both in one process. Every rule of `CleaningConfig` can be switched off, and counts what it did.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import ftfy

from storylm.config.schema import CleaningConfig
from storylm.data.cleaning_report import CleaningReport
from storylm.data.duplicates import DuplicateFilter, fingerprint
from storylm.data.records import Record

# Only the repair of wrongly decoded text: quotes stay curly, ligatures, widths, entities and line ends as they are.
_FTFY = ftfy.TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    fix_surrogates=False,
    remove_control_chars=False,
    normalization=None,
    explain=False,
)
# The third byte of UTF-8's ” (E2 80 9D) is no character of windows-1252, so TinyStories has it as a cut "â€".
# ftfy would read "â€ " as a dagger. What may follow in an uncut "â€?" is any character whose byte is 80..BF.
_THIRD = "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xC0)).replace("\xa0", "")
_CUT_QUOTE = re.compile(f"â€(?![{re.escape(_THIRD)}\x80-\x9f])")

# C0 and C1 controls but tab and line ends; soft hyphen; zero-width space; marks of writing direction; line and
# paragraph separators are white space; byte-order mark; lone surrogates; noncharacters. Zero-width (non-)joiners
# stay: emoji and some scripts need them.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile("[ \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_AROUND_LINE_END = re.compile(" ?\n ?")
_LINE_ENDS = re.compile("\n{3,}")
_SURROGATE = re.compile("[\ud800-\udfff]")

# A sentence's end, then at most closing quotes, brackets, symbols; or "The End" without a full stop.
_FINISHED = re.compile(r"(?:[.!?…。！？]\W*|\bthe\s+end\W*)\Z", re.IGNORECASE)
_OPENING = " \t\n\"'“”‘’«»([*_#—–-"
_INSIDE = ".,;:!?…)]"


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What `clean_text` made of a story. `text` None: the rule `dropped` dropped it."""

    text: str | None
    changed: tuple[tuple[str, str], ...] = ()
    """Rules that changed it, each with the text it left."""
    dropped: str | None = None


def repair_mojibake(text: str) -> str:
    """Undo UTF-8 that was read as windows-1252 (or the like).

    >>> repair_mojibake("â€œIâ€™m here,â€ she said.")
    '“I’m here,” she said.'
    """
    if text.isascii():  # nothing ftfy could change, and most stories
        return text
    return ftfy.fix_text(_CUT_QUOTE.sub("”", text), _FTFY)


def remove_control(text: str) -> str:
    """Without control characters, byte-order marks, zero-width spaces and lone surrogates."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub("", text)


def tidy_whitespace(text: str) -> str:
    """LF line ends, single spaces, none at the ends of lines; at most one empty line; none around the story.

    >>> tidy_whitespace(" One.  Two. \\r\\n\\r\\n\\r\\nThree.\\n")
    'One. Two.\\n\\nThree.'
    """
    text = _SPACES.sub(" ", _LINE_END.sub("\n", text))
    return _LINE_ENDS.sub("\n\n", _AROUND_LINE_END.sub("\n", text)).strip(" \n")


def is_fragment(text: str, min_characters: int) -> bool:
    """Whether a story is shorter than `min_characters` or starts in mid-sentence.

    >>> is_fragment("and they lived happily ever after. All was well.", 30)
    True
    """
    first = text.lstrip(_OPENING)[:1]
    return len(text.strip()) < min_characters or first.islower() or first in _INSIDE


def is_truncated(text: str) -> bool:
    """Whether a story stops in mid-sentence.

    >>> is_truncated('She said, "Yes!"'), is_truncated("She said"), is_truncated("They were happy. The End")
    (False, True, False)
    """
    return _FINISHED.search(text.rstrip()[-80:]) is None


_REPAIRS = (("mojibake", repair_mojibake), ("control", remove_control), ("whitespace", tidy_whitespace))


def clean_text(text: str, config: CleaningConfig) -> Cleaned:
    """The rules that look at one story by itself, in order. Pure.

    >>> clean_text("Once upon a time, there was a cat.  The", CleaningConfig()).dropped
    'truncated'
    """
    changed = []
    for rule, repair in _REPAIRS:
        if getattr(config, rule) and (repaired := repair(text)) != text:
            text = repaired
            changed.append((rule, text))
    # Whatever the settings, these cannot be written: an empty story, and what UTF-8 has no bytes for.
    if not text.strip() or _SURROGATE.search(text):
        return Cleaned(None, tuple(changed), "reading")
    if config.fragments and is_fragment(text, config.min_characters):
        return Cleaned(None, tuple(changed), "fragments")
    if config.truncated and is_truncated(text):
        return Cleaned(None, tuple(changed), "truncated")
    return Cleaned(text, tuple(changed))


def clean_record(record: Record, config: CleaningConfig, report: CleaningReport) -> str | None:
    """Stage 1 for one record: its cleaned story, or None. Everything is counted in `report`."""
    report.read += 1
    if record.problem:
        report.problems[record.problem] += 1
    if record.text is None:
        report.drop("reading", record.where or record.problem or "")
        return None
    if record.problem:
        report.change("reading", record.where, record.text)
    cleaned = clean_text(record.text, config)
    before = record.text
    for rule, after in cleaned.changed:
        report.change(rule, before, after)
        before = after
    if cleaned.dropped:
        report.drop(cleaned.dropped, before)
        if cleaned.dropped == "reading":
            report.problems["empty story" if not before.strip() else "lone surrogates"] += 1
    return cleaned.text


class Cleaner:
    """Both stages in one process.

    >>> cleaner = Cleaner(CleaningConfig())
    >>> list(cleaner.clean([Record("The cat sat on the mat and it purred."), Record("The cat sat on")]))
    ['The cat sat on the mat and it purred.']
    >>> cleaner.report.rules["fragments"].dropped
    1
    """

    def __init__(self, config: CleaningConfig):
        self.config = config
        self.report = CleaningReport()
        self.fingerprints: list[bytes] = []
        """Of the stories kept: validation's are what train is cleaned `against`."""

    def clean(self, records: Iterable[Record], against: Iterable[bytes] | None = None) -> Iterator[str]:
        """The stories kept, in order. `against`: fingerprints of validation stories, which are not to be trained on."""
        duplicates = DuplicateFilter(self.config, against)
        for record in records:
            text = clean_record(record, self.config, self.report)
            if text is None:
                continue
            mark = fingerprint(text, self.config)
            if rule := duplicates.check(mark):
                self.report.drop(rule, text)
            else:
                self.fingerprints.append(mark)
                yield text

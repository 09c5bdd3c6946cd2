"""Texts to hold tokenizers against each other: sentences of stories, and whatever Unicode has."""

import re
import sys
import unicodedata
from collections.abc import Sequence
from random import Random

_ANYTHING = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cs", "Cn")]
_SPACES = [" ", " ", " ", "\n", "\n", "\t", "\r\n", "\r", "\f", "\v", "\u00a0", "\u2003", "\u2009", "\u202f", "\u3000"]
_DIGITS = ["0123456789", "0123456789", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "０１２３４５６７８９", "²³¹⁴⅓½Ⅻ①"]
_MARKS = "\u0300\u0301\u0302\u0303\u0308\u030a\u0327\u0328\u0335\u20dd"
_SIGNS = list(".,;:!?-–—…'\"“”‘’«»()[]{}<>/\\|@#$%^&*_+=~`€£¥°§©™→×÷")
_WORDS = (  # noqa: SIM905
    "the Lily ran DON'T don't she'll I'VE we're it's 'tis o'clock rock’n’roll café naïve Ångström façade señor Øre "
    "straße łódka čaj æther İstanbul ﬁne привет Мир Ёлка γειά σου Αθήνα שלום עולם سلام مرحبا نَهر नमस्ते दुनिया "
    "สวัสดี ภาษา မင်္ဂလာပါ សួស្តី გამარჯობა Բարեւ ሰላም 你好 世界 小猫 こんにちは カタカナ ｶﾅ "
    "안녕하세요 한국어 tiếng Việt ᐃᓄᒃᑎᑐᑦ ꦲꦏ ߒߞߏ 𝓕𝓪𝓷𝓬𝔂 𐎀𐎁 𓀀"
).split()
_SPECIAL = "<s> </s> <unk> <|endoftext|> <0x0A> <0xFF> ▁ ▁▁ Ġ Ċ [INST]".split()  # noqa: SIM905 - plain text, here
_EMOJI = "😀 🦊 ❤️ ❤ 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 🇯🇵🇧🇷 1️⃣ ☃ ✨ ♀️ 🫠 🧑🏿‍🚀 ⌚ ㊙️".split()  # noqa: SIM905


def sentences(stories: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """So many different ones, from anywhere in the stories."""
    found = (part for story in stories for part in re.split(r"(?<=[.!?\"])\s+", story))
    return Random(seed).sample(sorted({part for part in found if part}), count)


def odd_texts(count: int, seed: int = 0) -> list[str]:
    """Each of up to 12 pieces: words of many scripts, accents as marks, runs of digits, of space and of signs, emoji,
    the names of special tokens, and code points of all kinds."""
    random = Random(seed)

    def run(signs: Sequence[str], longest: int) -> str:
        return "".join(random.choices(signs, k=random.randint(1, longest)))

    def marked() -> str:
        return "".join(sign + run(_MARKS, 3) for sign in unicodedata.normalize("NFD", random.choice(_WORDS)))

    kinds = [
        lambda: random.choice(_WORDS),
        lambda: " " + random.choice(_WORDS),
        lambda: random.choice(_SPACES) * random.randint(1, 6),
        lambda: run(_SPACES, 5),
        lambda: run(random.choice(_DIGITS), 12),
        lambda: run(_SIGNS, 4),
        lambda: run(_EMOJI, 3),
        lambda: random.choice(_SPECIAL),
        marked,
        lambda: run(_ANYTHING, 4),
    ]
    return ["".join(random.choice(kinds)() for _ in range(random.randint(1, 12))) for _ in range(count)]

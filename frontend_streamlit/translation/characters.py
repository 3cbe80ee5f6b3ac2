"""What the characters of a typed text are: one form for all their variants, and the script of each."""

import re
import unicodedata
from functools import lru_cache

_SPACED_VOICED_MARKS = re.compile(r"(?<=[ぁ-ゖァ-ヺｦ-ﾝ])[゛゜]")  # か゛
_VOICED_MARKS = {"゛": "\u3099", "゜": "\u309a"}
_QUOTES = frozenset("「」『』“”‘’\"'《》〈〉｢｣")  # part words as little as a space does
_LINE_ENDS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85")
_BLANKS = frozenset("\t\x1f\u2800")
_LIST_NUMBERS = frozenset(map(chr, (*range(0x2460, 0x249C), *range(0x24EA, 0x2500), *range(0x2776, 0x2794))))  # ①
# Nothing to see by themselves: fillers, and the marks that only choose how a sign looks (variant, skin, key cap).
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u20e3\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U0001f3fb-\U0001f3ff\U000e0000-\U000e0fff]"
)
JOINER = "\u200d"  # makes one picture of several emoji


def normalise(text: str) -> str:
    """NFKC without the characters that can't be seen; a tab is a space, ① the point of a list."""
    marked = _SPACED_VOICED_MARKS.sub(lambda mark: _VOICED_MARKS[mark[0]], text)
    visible = unicodedata.normalize("NFKC", "".join(map(_visible, marked)))
    if JOINER not in visible:
        return visible
    return "".join(char for i, char in enumerate(visible) if char != JOINER or _joins(visible, i))


@lru_cache(maxsize=10_000)
def _visible(char: str) -> str:
    if char in _LINE_ENDS or char == JOINER:
        return char
    if char in _BLANKS:
        return " "
    if char in _LIST_NUMBERS:
        return "・"
    return "" if unicodedata.category(char) in ("Cf", "Cc") or _INVISIBLE.match(char) else char


def _joins(text: str, i: int) -> bool:
    """Whether the joiner at i stands between two signs."""
    return 0 < i < len(text) - 1 and script_of(text[i - 1]) == script_of(text[i + 1]) == "symbol"


def fold_kana(text: str) -> str:
    """Katakana as hiragana, character by character."""
    return "".join(chr(ord(char) - 0x60) if "ァ" <= char <= "ヶ" else char for char in text)


def vowel_of(kana: str) -> str:
    """The vowel in which a kana ends; "" for ん."""
    return {"A": "あ", "I": "い", "U": "う", "E": "え", "O": "お"}.get(unicodedata.name(kana, " ")[-1], "")


def scripts_of(text: str) -> list[str]:
    """The script of every character; a combining mark and the mark of a long vowel belong to what they follow."""
    scripts = [script_of(char) for char in text]
    for i in range(1, len(text)):
        if scripts[i] == "mark" or (text[i] == "ー" and scripts[i - 1] == "hiragana"):
            scripts[i] = scripts[i - 1]
    return ["symbol" if script == "mark" else script for script in scripts]


@lru_cache(maxsize=10_000)
def script_of(char: str) -> str:
    """One of kanji, hiragana, katakana, latin, letter (of another script), mark, digit, space, break, symbol."""
    if "ぁ" <= char <= "ゟ":
        return "hiragana"
    if "ァ" <= char <= "ヿ" and char != "・":
        return "katakana"
    if char in "々〆〇〻" or "\U00020000" <= char <= "\U0003ffff":
        return "kanji"
    category = unicodedata.category(char)
    if category[0] == "L":
        return _script_of_letter(unicodedata.name(char, ""))
    if category == "Nd":
        return "digit"
    if category[0] == "Z" or char in _QUOTES:
        return "space" if char not in "\u2028\u2029" else "break"
    if category[0] == "M":
        return "mark"
    return "break" if category[0] == "P" or (category in ("Cc", "Cf", "Cs") and char != JOINER) else "symbol"


def _script_of_letter(name: str) -> str:
    beginnings = {"CJK": "kanji", "HIRAGANA": "hiragana", "KATAKANA": "katakana", "LATIN": "latin"}
    return beginnings.get(re.split("[ -]", name)[0], "letter")

"""Text as everybody sees it: what two texts that look alike have in common."""

import re
import unicodedata

# Characters that show nothing but belong to other categories than "format": fillers and marks that choose a look
UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}
# Kana, kanji (々 and 〇 among them), half-width kana
JAPANESE_CHARACTERS = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
JAPANESE = re.compile(f"[{JAPANESE_CHARACTERS}]")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tab and line ends


def visible(text: str, unseen: str = "") -> str:
    """A text with one width for every character (NFKC), and without characters that nobody sees.

    Args:
        unseen: stands for each of those.
    """
    return unicodedata.normalize("NFKC", "".join(unseen if is_unseen(character) else character for character in text))


def is_unseen(character: str) -> bool:
    """Whether a character shows nothing and takes no room, such as a zero width space or a soft hyphen."""
    return character in UNSEEN or unicodedata.category(character) == "Cf"


def without_controls(text: str) -> str:
    """A text with spaces for control characters other than tab and line ends: nobody meant them, and files break."""
    return CONTROL.sub(" ", text)

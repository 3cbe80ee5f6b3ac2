"""The operator's list of terms that no prompt may have."""

import re
from collections.abc import Iterable
from pathlib import Path

from backend_gpu.errors import ContentRefused, InvalidRequest
from backend_gpu.plain_text import JAPANESE, JAPANESE_CHARACTERS, visible

LETTER = rf"[^\W{JAPANESE_CHARACTERS}]"  # of a word: Japanese beside it ends one


class Blocklist:
    """Terms that no prompt may have: Latin ones as whole words, Japanese ones anywhere."""

    def __init__(self, terms: Iterable[str]) -> None:
        patterns = (
            re.escape(term) if JAPANESE.search(term) else rf"(?<!{LETTER}){re.escape(term)}(?!{LETTER})"
            for term in map(folded, terms)
            if term  # one of unseen characters alone would be in every text
        )
        self._pattern = re.compile("|".join(patterns) or r"(?!)")

    @staticmethod
    def read(path: Path | None) -> "Blocklist":
        """Read a UTF-8 file of one term a line; empty lines and those that start with # are left out.

        Raises:
            InvalidRequest: it can't be read.
        """
        if path is None:
            return Blocklist(())
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"can't read the blocklist {path}: {error}") from error
        return Blocklist(term for term in map(str.strip, lines) if term and not term.startswith("#"))

    def check(self, text: str, param: str) -> None:
        """Refuse a text with a term.

        Raises:
            ContentRefused: there is one.
        """
        joined = text.replace("\t", "")  # which some see as nothing
        if any(self._pattern.search(folded(hidden, unseen)) for hidden in (text, joined) for unseen in ("", " ")):
            raise ContentRefused(f"{param} has a term that this service does not draw: change it", param)


def folded(text: str, unseen: str = "") -> str:
    """A text without what hides a term: case, width, the kind and number of spaces, characters that nobody sees.

    Args:
        unseen: stands for each of those: nothing (bo_mb), or a space (a_bomb).
    """
    return " ".join(visible(text, unseen).casefold().split())

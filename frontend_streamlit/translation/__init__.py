"""From the language the user types to the English the picture models read: one protocol, one module per translator."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What became of one text.

    `unknown_words` are the pieces of the source that `english` does not express, in the order of the source.
    `english` is empty when nothing was understood.
    """

    source: str
    english: str
    translator: str
    unknown_words: tuple[str, ...] = ()


class Translator(Protocol):
    """Anything that turns what the user typed into English."""

    @property
    def name(self) -> str:
        """Short name, as `FRONTEND_TRANSLATOR` spells it."""

    def translate(self, text: str) -> Translation:
        """Translate one text of any length; English comes back unchanged."""

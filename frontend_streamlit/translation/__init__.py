"""From the language the user types to the English the picture models read: one protocol, one module per translator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What became of one text.

    `unknown_words` are the pieces of the source that `english` does not express, in the order of the source.
    `not_drawn` are the pieces that `english` expresses but the mini model can't draw; `suggestions` has the known words
    that unknown ones were probably meant to be. `english` is empty when nothing was understood.
    """

    source: str
    english: str
    translator: str
    unknown_words: tuple[str, ...] = ()
    not_drawn: tuple[str, ...] = ()
    suggestions: Mapping[str, str] = field(default_factory=dict)


class Translator(Protocol):
    """Anything that turns what the user typed into English."""

    @property
    def name(self) -> str:
        """Short name, as `FRONTEND_TRANSLATOR` spells it."""

    @property
    def is_closed_vocabulary(self) -> bool:
        """Whether it knows only the words that the mini model can draw, so that free Japanese is lost on it."""

    def translate(self, text: str) -> Translation:
        """Translate one text of any length; English comes back unchanged."""


class TranslationError(Exception):
    """The text could not be translated; the message is for whoever runs the page, the page has its own words."""


class TranslatorMisconfigured(TranslationError):
    """A setting, a file, a package or credentials are missing or wrong: trying again does not help."""


class TranslationDenied(TranslationError):
    """The service knows who asks and refuses: a role, the API or the billing is missing, or a login was revoked."""


class TranslationQuotaExceeded(TranslationError):
    """The project has used up what it may translate per minute or per day."""


class TranslationTimedOut(TranslationError):
    """No answer came in time."""


class TranslationUnavailable(TranslationError):
    """The service cannot be reached or fails; it was asked again where that could help."""


class TranslationEmpty(TranslationError):
    """The answer had no text in it."""

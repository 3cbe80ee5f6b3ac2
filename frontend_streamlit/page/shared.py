"""What the parts of the page share."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import streamlit as st

from frontend_streamlit.state.session import Session
from frontend_streamlit.texts import Texts
from frontend_streamlit.texts.english import ENGLISH
from frontend_streamlit.texts.japanese import JAPANESE

logger = logging.getLogger(__name__)


def texts_of(session: Session) -> Texts:
    """The page's texts in the visit's language."""
    return ENGLISH if session.language == "en" else JAPANESE


@contextmanager
def shows_unexpected_errors(texts: Texts) -> Iterator[None]:
    """Say that something went wrong which has no words of its own; the log has the rest.

    Streamlit's own reruns and stops pass.
    """
    try:
        yield
    except Exception:
        logger.exception("a part of the page could not be drawn")
        st.error(texts.unexpected_error)


def as_text(words: str) -> str:
    """What the user wrote, so that Markdown takes it for what it is."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]()#+-.!|~$:<>" else sign for sign in escape(words, quote=False))

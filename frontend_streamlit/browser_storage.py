"""What needs the browser's help: keeping what the user has written, and saving files. Nothing lives in this process."""

import base64
import uuid
from functools import partial
from pathlib import Path

import streamlit as st

from frontend_streamlit.clients import Clients
from frontend_streamlit.state.session import Session

TEXTS = ("prompt", "english", "negative")  # keys of the fields that are kept while they are being written


def script(name: str) -> str:
    """A file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


keeper = st.components.v2.component("kotoe.keep", js=script("browser_storage.js"))
saver = st.components.v2.component("kotoe.save", js=script("browser_save.js"))


def keep(session: Session, clients: Clients) -> None:
    """Let the browser keep what would be lost with this visit, or tell what it kept of an earlier one."""

    def take() -> None:
        session.take_kept(st.session_state.keep.told, clients.translator)

    keeper(key="keep", data=session.to_keep() | {"texts": TEXTS}, on_told_change=partial(session.act, take))


def save(content: bytes, name: str, kind: str) -> None:
    """Hand a file to the user."""
    saver(key="save", data={"id": uuid.uuid4().hex, "name": name, "url": data_url(content, kind)})


def data_url(content: bytes, kind: str = "image/png") -> str:
    """A file that no single process has to hold for the browser."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"

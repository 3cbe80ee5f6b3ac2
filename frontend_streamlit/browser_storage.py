"""What needs the browser's help: storing what the user has written, and saving files. Nothing lives in this process."""

import base64
import uuid
from functools import partial
from pathlib import Path

import streamlit as st

from frontend_streamlit.clients import Clients
from frontend_streamlit.state.form import TEXTS
from frontend_streamlit.state.session import Session


def script(name: str) -> str:
    """A file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


storage = st.components.v2.component("kotoe.storage", js=script("browser_storage.js"))
saver = st.components.v2.component("kotoe.save", js=script("browser_save.js"))


def store(session: Session, clients: Clients) -> None:
    """Let the browser store what would be lost with this visit, or send what it stored of an earlier one."""

    def take() -> None:
        session.take_stored(st.session_state["storage"].stored, clients.translator)

    storage(key="storage", data=session.to_store() | {"texts": TEXTS}, on_stored_change=partial(session.act, take))


def save(content: bytes, name: str, kind: str) -> None:
    """Hand a file to the user."""
    saver(key="save", data={"id": uuid.uuid4().hex, "name": name, "url": data_url(content, kind)})


def data_url(content: bytes, kind: str = "image/png") -> str:
    """A file that no single process has to hold for the browser."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"

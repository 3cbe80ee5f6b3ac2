from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.components.v2.component_manager import BidiComponentManager

from frontend_streamlit import clients
from frontend_streamlit.clients import backend as backend_client
from frontend_streamlit.settings import Settings
from tests.frontend_streamlit.fake_backend import FakeBackend, serve
from tests.frontend_streamlit.page import Page


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    with serve(FakeBackend()) as fake:
        yield fake


@pytest.fixture
def page(backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    """The page of a new visitor, before its first run; its clients may be changed until then."""
    monkeypatch.setattr(backend_client, "SUBMIT_PAUSES_S", (0.0, 0.0))
    settings = Settings(backend_url=backend.url, gallery=str(tmp_path), translator="offline")
    new = Page(clients.make_clients(settings))
    monkeypatch.setattr(clients, "make_clients", lambda _: new.clients)
    # Every new AppTest reads the metadata of all installed packages, in search of components: half a second.
    monkeypatch.setattr(BidiComponentManager, "discover_and_register_components", lambda *_, **__: None)
    st.cache_resource.clear()
    st.cache_data.clear()
    return new

"""The page, from top to bottom: `streamlit run frontend_streamlit/app.py`."""

import logging
import sys
from contextlib import suppress
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Streamlit runs this file by its path

from frontend_streamlit import browser_storage
from frontend_streamlit.clients import Clients, identity, make_clients
from frontend_streamlit.clients.backend import BackendError, Status
from frontend_streamlit.clients.gallery import GalleryUnavailable
from frontend_streamlit.clients.model import ModelDescription
from frontend_streamlit.page.gallery import show_gallery
from frontend_streamlit.page.gpu import show_gpu
from frontend_streamlit.page.header import show_header
from frontend_streamlit.page.jobs import show_jobs
from frontend_streamlit.page.prompt import (
    show_draw_button,
    show_english,
    show_examples,
    show_notices,
    show_prompt,
    show_vocabulary,
)
from frontend_streamlit.page.settings_form import show_settings
from frontend_streamlit.page.shared import as_text, shows_unexpected_errors, texts_of
from frontend_streamlit.settings import Settings
from frontend_streamlit.state.session import Session
from frontend_streamlit.texts.japanese import JAPANESE

logger = logging.getLogger(__name__)


@st.cache_resource(show_spinner=False)
def clients_of_this_process() -> Clients:
    """Made once; every visit shares them."""
    return make_clients(Settings())


@st.cache_data(ttl=5, show_spinner=False)
def backend_status(_clients: Clients) -> Status | None:
    """What the backend says of itself, asked at most every five seconds; None if it does not answer."""
    try:
        return _clients.backend.read_status()
    except BackendError:
        return None


@st.cache_resource(ttl=60, show_spinner=False)
def model_of_backend(_clients: Clients, model_id: str) -> ModelDescription:
    """What the backend's model says of itself, asked once a minute."""
    return _clients.backend.read_model(model_id)


@st.cache_resource(ttl=60, show_spinner=False)
def model_of_gallery(_clients: Clients) -> ModelDescription | None:
    """Likewise the file beside the gallery, which is there while the backend sleeps."""
    try:
        return _clients.gallery.description()
    except GalleryUnavailable:
        return None


def model_description(clients: Clients, status: Status | None) -> ModelDescription | None:
    """The model that draws, or will once it is loaded; None if neither backend nor gallery can say."""
    if status is not None and status.model is not None:
        with suppress(BackendError):
            return model_of_backend(clients, status.model)
    return model_of_gallery(clients)


def account_owner(settings: Settings) -> str | None:
    """The owner that belongs to the signed-in account; None where the link is the key. May end the run."""
    if settings.login == "iap":
        return identity.owner_of_iap(st.context.headers, settings.iap_audience)
    if settings.login == "oidc":
        if not st.user.is_logged_in:
            st.title("言絵", anchor=False)
            st.write(JAPANESE.sign_in_text)
            if st.button(JAPANESE.sign_in, type="primary"):
                st.login()
            st.stop()
        if not identity.is_allowed(st.user, settings.allowed_emails):
            st.title("言絵", anchor=False)
            st.error(JAPANESE.not_on_the_list.format(as_text(str(st.user.get("email", "")))))
            st.button(JAPANESE.sign_out, on_click=st.logout)
            st.stop()
        return identity.owner_of_account(str(st.user["iss"]), str(st.user["sub"]))
    return None


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="言絵 Kotoe", page_icon="🎨", layout="centered", initial_sidebar_state="collapsed")
    with shows_unexpected_errors(JAPANESE):
        clients = clients_of_this_process()
        try:
            session = Session.current(account_owner(clients.settings))
        except identity.NotVerified as error:
            logger.warning("a visitor's identity could not be verified: %s", error)
            st.error(JAPANESE.not_allowed)
            return
        with shows_unexpected_errors(texts_of(session)):
            show(session, clients)


def show(session: Session, clients: Clients) -> None:
    """The page of one user."""
    form = session.form
    form.restore()
    top = st.container()
    is_known = session.is_known
    if is_known:
        with top:
            # First: what the user has just done is stored before anything is waited for.
            browser_storage.store(session, clients)
    status = backend_status(clients)
    session.adapt_to(model_description(clients, status))
    show_header(session, clients, status)
    if form.view == "gallery":
        if session.waiting.requests:
            show_gpu(session, clients, status)
        show_gallery(session, clients)
    else:
        left, right = st.columns(2)
        with left:
            show_prompt(session, clients)
        with right:
            show_english(session)
        show_draw_button(session, clients)
        show_gpu(session, clients, status)
        show_notices(session, clients)
        show_examples(session, clients)
        show_vocabulary(session)
        show_settings(session)
        show_jobs(session, clients)
        form.restored.clear()  # all of it has been shown
    if clients.settings.login == "none":
        st.caption(texts_of(session).private_link)
    if not is_known:
        # Last: its answer ends this run, and Streamlit drops what is not sent by then.
        browser_storage.store(session, clients)


main()

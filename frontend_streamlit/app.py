"""The page, from top to bottom: `streamlit run frontend_streamlit/app.py`."""

import logging
import sys
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Streamlit runs this file by its path

from frontend_streamlit import browser_storage as browser
from frontend_streamlit.clients import Clients, identity, make_clients
from frontend_streamlit.clients.backend import BackendError, Status
from frontend_streamlit.page import gallery as gallery_view
from frontend_streamlit.page import gpu as gpu_panel
from frontend_streamlit.page import jobs as job_cards
from frontend_streamlit.page import prompt as components
from frontend_streamlit.settings import Settings
from frontend_streamlit.state.session import Session
from frontend_streamlit.texts import JAPANESE

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
            st.error(JAPANESE.not_on_the_list.format(components.as_text(str(st.user.get("email", "")))))
            st.button(JAPANESE.sign_out, on_click=st.logout)
            st.stop()
        return identity.owner_of_account(str(st.user["iss"]), str(st.user["sub"]))
    return None


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="言絵 Kotoe", page_icon="🎨", layout="centered", initial_sidebar_state="collapsed")
    with components.surprises_told(JAPANESE):
        clients = clients_of_this_process()
        try:
            session = Session.current(account_owner(clients.settings))
        except identity.NotVerified as error:
            logger.warning("a visitor's identity could not be verified: %s", error)
            st.error(JAPANESE.not_allowed)
            return
        with components.surprises_told(components.texts_of(session)):
            show(session, clients)


def show(session: Session, clients: Clients) -> None:
    """The page of one user."""
    session.restore()
    top = st.container()
    is_known = session.is_known
    if is_known:
        with top:
            browser.keep(session, clients)  # first: what the user has just done is kept before anything is waited for
    status = backend_status(clients)
    model = components.model_of(session, status)
    session.adapt_to(model)
    components.show_header(session, clients, status)
    if st.session_state.view == "gallery":
        if session.waiting:
            gpu_panel.show_gpu(session, clients, status)
        gallery_view.show_gallery(session, clients)
    else:
        left, right = st.columns(2)
        with left:
            components.show_prompt(session, clients)
        with right:
            components.show_english(session)
        components.show_draw_button(session, clients)
        gpu_panel.show_gpu(session, clients, status)
        components.show_notices(session, clients, status)
        components.show_examples(session, clients, model)
        components.show_drawable(session, clients, status)
        components.show_settings(session)
        job_cards.show_jobs(session, clients)
        session.restored.clear()  # all of it has been shown
    if clients.settings.login == "none":
        st.caption(components.texts_of(session).private_link)
    if not is_known:
        browser.keep(session, clients)  # last: its answer ends this run, and Streamlit drops what is not sent by then


main()

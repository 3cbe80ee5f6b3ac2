"""The top of the page: its name, the language, which part is shown."""

import streamlit as st

from frontend_streamlit.clients import Clients
from frontend_streamlit.clients.backend import Status
from frontend_streamlit.page.shared import texts_of
from frontend_streamlit.state.session import Session

STYLE = """<style>
.stMainBlockContainer {padding-top: 2.5rem; padding-bottom: 2rem}  /* Streamlit: 6 and 10 */
.st-key-storage, .st-key-save {display: none}
</style>"""


def show_header(session: Session, clients: Clients, status: Status | None) -> None:
    """Name, language switch, which part of the page."""
    texts = texts_of(session)
    st.html(STYLE)
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.title("言絵", anchor=False, width="content")
        with st.container(horizontal=True, width="content"):
            if clients.settings.login == "oidc":
                st.button(texts.sign_out, key="sign_out", on_click=st.logout, type="tertiary")
            st.button(
                texts.language,
                key="switch_language",
                on_click=session.act,
                args=(session.switch_language,),
                type="tertiary",
            )
    state = ""
    if status is not None:
        state = texts.model_is_loading
        if status.is_ready:
            state = texts.backend_state.format(status.model, status.device, status.queued_jobs)
    st.caption(" — ".join(filter(None, (texts.tagline, state))))
    if session.has_unexpected_error:
        session.has_unexpected_error = False
        st.error(texts.unexpected_error)
    views = {"draw": texts.draw_view, "gallery": texts.gallery_view}
    st.segmented_control(
        texts.gallery_view,
        list(views),
        format_func=views.__getitem__,
        key="view",
        label_visibility="collapsed",
        required=True,
    )

"""The user's pictures: pages of small ones, one large."""

import streamlit as st

from frontend_streamlit.browser_storage import data_url, save
from frontend_streamlit.clients import Clients
from frontend_streamlit.clients.gallery import GalleryUnavailable, Picture, zipped
from frontend_streamlit.page.shared import as_text, shows_unexpected_errors, texts_of
from frontend_streamlit.state.session import Session
from frontend_streamlit.texts import sentence_for

PICTURES_PER_PAGE = 12
CAPTION_CHARACTERS = 40  # of a thumbnail
THUMBNAIL_WIDTH, LARGE_WIDTH = 164, 512  # pixels; two thumbnails fit side by side on a phone


def show_gallery(session: Session, clients: Clients) -> None:
    """The user's pictures, newest first."""
    texts = texts_of(session)
    show_gallery_error(session)
    words = st.text_input(
        texts.search,
        key="search",
        on_change=session.act,
        args=(session.album.turn_to, 0),
        persist_state="session",
    )
    try:
        names = clients.gallery.search(session.owner, words)
        pages = max(1, -(-len(names) // PICTURES_PER_PAGE))
        session.album.page = min(session.album.page, pages - 1)
        first = session.album.page * PICTURES_PER_PAGE
        pictures = clients.gallery.pictures(session.owner, names[first : first + PICTURES_PER_PAGE])
    except GalleryUnavailable as error:
        st.warning(sentence_for(error, texts))
        st.button(texts.try_again, key="retry_gallery")
        return
    if not names:
        st.info(texts.nothing_found.format(as_text(words)) if words.strip() else texts.no_pictures)
        return
    show_thumbnails(session, clients, pictures)
    with st.container(horizontal=True, vertical_alignment="center"):
        page, turn_to = session.album.page, session.album.turn_to
        st.button(texts.newer, key="newer", disabled=page == 0, on_click=session.act, args=(turn_to, page - 1))
        st.caption(texts.page_of.format(page + 1, pages, len(names)), width="content")
        st.button(texts.older, key="older", disabled=page + 1 >= pages, on_click=session.act, args=(turn_to, page + 1))
        st.fragment(show_zip)(session, pictures)


def show_thumbnails(session: Session, clients: Clients, pictures: list[Picture]) -> None:
    """Small pictures, as many side by side as there is room for; each opens large."""
    texts = texts_of(session)
    with st.container(horizontal=True):
        for picture in pictures:
            with st.container(width=THUMBNAIL_WIDTH, gap="xsmall", key=f"card_{picture.name}"):
                st.image(data_url(picture.png), width="stretch")
                if st.button(short(picture.source_prompt), key=f"open_{picture.name}", type="tertiary"):
                    st.dialog(texts.picture, width="medium")(show_picture)(session, clients, picture)


def show_zip(session: Session, pictures: list[Picture]) -> None:
    """A button that saves the pictures in one file."""
    if st.button(texts_of(session).zip, key="zip"):
        save(zipped(pictures), "kotoe.zip", "application/zip")


def show_gallery_error(session: Session) -> None:
    """Why a picture could not be deleted, once."""
    if session.album.error is not None:
        st.error(sentence_for(session.album.error, texts_of(session)))
        session.album.error = None


def show_picture(session: Session, clients: Clients, picture: Picture) -> None:
    """One picture, large, with how it was made and what can be done with it."""
    with shows_unexpected_errors(texts_of(session)):
        draw_picture(session, clients, picture)


def draw_picture(session: Session, clients: Clients, picture: Picture) -> None:
    """The inside of the dialog."""
    texts = texts_of(session)
    record = picture.record
    show_gallery_error(session)
    if clients.gallery.picture(session.owner, picture.name) is None:
        st.rerun()  # without the dialog: it has just been deleted, or was elsewhere
    with st.container(horizontal_alignment="center"):
        st.image(data_url(picture.png), width=LARGE_WIDTH)
    st.markdown(f"**{as_text(picture.source_prompt)}**")
    st.caption(as_text(picture.prompt))
    st.caption(" · ".join(facts_of(picture)))
    with st.container(horizontal=True):
        if st.button(texts.download, key=f"get_{picture.name}"):
            save(picture.png, picture.name, "image/png")
        for label, key, act, arguments in (
            (texts.use_settings, "use", session.use_settings, (record,)),
            (texts.same_prompt, "again", session.draw_again, (record, clients)),
        ):
            if st.button(label, key=f"{key}_{picture.name}", on_click=session.act, args=(act, *arguments)):
                st.rerun()  # without the dialog
        if session.album.to_delete != picture.name:
            st.button(
                texts.delete,
                key=f"delete_{picture.name}",
                on_click=session.act,
                args=(session.album.ask_to_delete, picture.name),
            )
    if session.album.to_delete == picture.name:
        confirm_deletion(session, clients, picture)


def facts_of(picture: Picture) -> list[str]:
    """When and how a picture was made."""
    record = picture.record
    steps = [str(record[name]) for name in ("steps", "upsample_steps") if record.get(name) is not None]
    facts = [f"{picture.made_at.astimezone():%Y-%m-%d %H:%M}", f"{record.get('model')}", f"seed {picture.seed}"]
    facts.append(f"{record.get('sampler')} {'+'.join(steps)}")
    if record.get("guidance_scale") is not None:
        facts.append(f"guidance {record['guidance_scale']}")
    return facts


def confirm_deletion(session: Session, clients: Clients, picture: Picture) -> None:
    """Deleting takes a second click."""
    texts = texts_of(session)

    def delete() -> None:
        if session.album.delete(session.owner, picture.name, clients.gallery):
            st.toast(texts.deleted)

    st.warning(texts.delete_question)
    with st.container(horizontal=True):
        yes, no = f"yes_{picture.name}", f"no_{picture.name}"
        st.button(texts.delete_yes, key=yes, type="primary", on_click=session.act, args=(delete,))
        st.button(texts.keep, key=no, on_click=session.act, args=(session.album.ask_to_delete, ""))


def short(words: str) -> str:
    """The beginning of a prompt, for a button."""
    line = " ".join(words.split())
    return as_text(line[:CAPTION_CHARACTERS]) + "…" * (len(line) > CAPTION_CHARACTERS) or "—"

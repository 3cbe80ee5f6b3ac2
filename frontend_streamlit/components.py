"""The parts of the page, each drawn by one function."""

import base64
import time
from dataclasses import replace
from html import escape

import streamlit as st

from frontend_streamlit.backend_client import BackendError, Image, Job, Status
from frontend_streamlit.clients import Clients
from frontend_streamlit.gallery import GalleryUnavailable, Picture, zipped
from frontend_streamlit.session import MAX_SEED, QUALITY_STEPS, Session
from frontend_streamlit.texts import EXAMPLES, LANGUAGES, Texts, duration, sentence_for

POLL_INTERVAL_S = 1.0
SHOWN_JOBS = 12
SHOWN_AFTER_END_S = 1800  # an ended job keeps its card for so long; its pictures stay in the gallery
PICTURES_PER_PAGE = 12
MAX_PICTURES = 8
SAMPLERS = ("dpmpp_2m", "ddim", "ddpm")
PEOPLE = frozenset(
    ("person", "people", "man", "men", "woman", "women", "boy", "boys", "girl", "girls", "child", "children", "face")
)


def texts_of(session: Session) -> Texts:
    """The page's texts in the visit's language."""
    return LANGUAGES[session.language]


def show_header(session: Session, status: Status | None) -> None:
    """Name, language switch, which part of the page."""
    texts = texts_of(session)
    title, switch = st.columns([4, 1], vertical_alignment="bottom")
    title.title("言絵", anchor=False)
    switch.button(texts.language, key="switch_language", on_click=session.switch_language, type="tertiary")
    told = ""
    if status is not None and status.is_ready:
        told = " — " + texts.backend_state.format(status.model, status.device, status.queued_jobs)
    st.caption(texts.tagline + told)
    views = {"draw": texts.draw_view, "gallery": texts.gallery_view}
    st.segmented_control(
        texts.gallery_view, list(views), format_func=views.__getitem__, key="view", label_visibility="collapsed"
    )


def show_prompt(session: Session, clients: Clients) -> None:
    """Where the user writes."""
    texts = texts_of(session)
    st.text_area(
        texts.prompt,
        key="prompt",
        placeholder=texts.prompt_hint,
        max_chars=1000,
        height=110,
        on_change=session.read_prompt,
        args=(clients.translator,),
    )


def show_examples(session: Session, clients: Clients, model: str) -> None:
    """Prompts to click."""
    st.caption(texts_of(session).examples)
    with st.container(horizontal=True):
        for number, example in enumerate(EXAMPLES.get(model, EXAMPLES["kotoe-mini"])):
            st.button(
                example,
                key=f"example_{number}",
                on_click=session.take_example,
                args=(example, clients.translator),
            )


def show_english(session: Session, clients: Clients, status: Status | None) -> None:
    """The translation, open to changes, and what it does not say."""
    texts = texts_of(session)
    st.text_area(texts.english, key="english", max_chars=1000, height=110, help=texts.english_help)
    translation = session.translation
    if session.translation_error is not None:
        st.warning(sentence_for(session.translation_error, texts))
        st.button(
            texts.translate_again, key="retry_translation", on_click=session.translate, args=(clients.translator,)
        )
    elif session.is_edited and session.is_stale and st.session_state.prompt.strip():
        st.info(texts.english_kept)
        st.button(texts.translate_again, key="translate_again", on_click=session.translate, args=(clients.translator,))
    elif translation is not None:
        name = "edited" if session.is_edited else translation.translator
        if not session.is_edited and translation.english == translation.source:
            name = "english"
        st.caption(texts.translated_by.get(name, name))
        if session.is_edited and translation.english:
            st.button(texts.undo_translation, key="undo", on_click=session.restore_translation, type="tertiary")
    if translation is not None and not session.is_edited:
        if not translation.english:
            st.warning(texts.nothing_understood)
        elif translation.unknown_words:
            st.warning(texts.unknown_words.format("、".join(translation.unknown_words)))
    english = st.session_state.english.lower()
    if status is not None and english:
        if unknown := status.unknown_words(english):
            st.warning(texts.model_unknown_words.format(", ".join(unknown)))
        if status.model == "glide" and PEOPLE & set(english.replace(",", " ").split()):
            st.warning(texts.people_warning)


def show_settings(session: Session) -> None:
    """How to draw; values out of range can't be entered."""
    texts = texts_of(session)
    with st.expander(texts.settings):
        left, right = st.columns(2)
        left.number_input(texts.count, 1, MAX_PICTURES, key="count")
        right.segmented_control(
            texts.quality,
            list(texts.qualities),
            format_func=texts.qualities.__getitem__,
            key="quality",
            on_change=session.choose_quality,
            required=True,
        )
        left, right = st.columns(2)
        left.segmented_control(
            texts.seed_mode,
            list(texts.seed_modes),
            format_func=texts.seed_modes.__getitem__,
            key="seed_mode",
            required=True,
        )
        right.number_input(texts.seed, 0, MAX_SEED, key="seed", disabled=st.session_state.seed_mode != "fixed")
        st.markdown(f"**{texts.advanced}**")
        left, right = st.columns(2)
        left.slider(texts.steps, 1, 250, key="steps")
        right.slider(texts.upsample_steps, 1, 100, key="upsample_steps")
        left.slider(texts.guidance, 1.0, 20.0, step=0.5, key="guidance", help=texts.guidance_help)
        right.selectbox(texts.sampler, SAMPLERS, key="sampler")
        st.text_input(texts.negative, key="negative", max_chars=1000, help=texts.negative_help)


def show_draw_button(session: Session, clients: Clients) -> None:
    """Hand in what the user asks for."""
    texts = texts_of(session)

    def draw() -> None:
        session.submit_error = None
        if not st.session_state.english.strip():
            session.read_prompt(clients.translator)
        request = session.request()
        if not request.prompt:
            return
        try:
            clients.backend.submit(request)
        except BackendError as error:
            session.submit_error = error
        else:
            st.toast(texts.submitted)

    pressed = st.button(texts.draw, key="draw", type="primary", width="stretch", on_click=draw)
    if session.submit_error is not None:
        st.error(sentence_for(session.submit_error, texts))
        if str(session.submit_error) and session.language == "en":
            st.caption(str(session.submit_error))
    elif pressed and not st.session_state.english.strip():
        st.warning(texts.nothing_to_draw)


def show_jobs(session: Session, clients: Clients) -> None:
    """A card for each job; asked for again only while one is live."""
    texts = texts_of(session)
    try:
        jobs = clients.backend.list_jobs(session.owner, SHOWN_JOBS)
    except BackendError as error:
        st.warning(sentence_for(error, texts))
        return
    st.subheader(texts.jobs, anchor=False)
    is_live = any(not job.has_ended for job in jobs)
    st.fragment(run_every=POLL_INTERVAL_S if is_live else None)(draw_job_cards)(session, clients, is_live)


def draw_job_cards(session: Session, clients: Clients, was_live: bool) -> None:
    """The cards, as they are now."""
    texts = texts_of(session)
    try:
        jobs = clients.backend.list_jobs(session.owner, SHOWN_JOBS)
    except BackendError as error:
        st.warning(sentence_for(error, texts))  # and the next run asks again
        return
    if was_live and all(job.has_ended for job in jobs):
        st.rerun()  # of the whole page, which then no longer polls
    oldest = time.time() - SHOWN_AFTER_END_S
    shown = [job for job in jobs if job.id not in session.dismissed and (not job.has_ended or job.created_at > oldest)]
    if not shown:
        st.caption(texts.no_jobs)
    for job in shown:
        with st.container(border=True, key=f"job_{job.id}"):
            draw_job_card(session, clients, job)


def draw_job_card(session: Session, clients: Clients, job: Job) -> None:
    """One job: what was asked, how far it is, its pictures."""
    texts = texts_of(session)
    words, button = st.columns([4, 1], vertical_alignment="center")
    words.markdown(f"**{as_text(job.request.source_prompt or job.request.prompt)}**")
    if job.has_ended:
        if button.button(texts.dismiss, key=f"dismiss_{job.id}", type="tertiary"):
            session.dismissed.add(job.id)
            st.rerun(scope="fragment")
    elif button.button(texts.cancel, key=f"cancel_{job.id}"):
        try:
            clients.backend.cancel(job.id)
        except BackendError as error:
            st.error(sentence_for(error, texts))
        else:
            st.rerun(scope="fragment")
    if job.status == "succeeded":
        draw_results(session, clients, job)
    elif job.status == "failed":
        st.error(texts.failed.get(job.error_code or "", texts.failed[""]))
        show_submit_again(session, clients, job, texts.try_again)
    elif job.status == "cancelled":
        st.caption(texts.status[job.status])
    else:
        st.progress(job.progress.fraction if job.progress else 0.0, text=progress_line(job, texts))
        if job.preview:
            st.image(job.preview, width=192 * min(job.request.n, 4))


def progress_line(job: Job, texts: Texts) -> str:
    """Where a live job is, in words."""
    parts = [texts.status[job.status]]
    if job.position is not None:
        parts.append(texts.place.format(job.position))
    if job.progress is not None:
        parts.append(f"{texts.stage[job.progress.stage]} {job.progress.step}/{job.progress.total_steps}")
    if job.eta_s is not None:
        parts.append(texts.eta.format(duration(job.eta_s, texts)))
    return "・".join(parts) if texts is LANGUAGES["ja"] else ", ".join(parts)


def draw_results(session: Session, clients: Clients, job: Job) -> None:
    """The pictures of a job that has succeeded."""
    texts = texts_of(session)
    columns = st.columns(min(len(job.images), 4))
    for image in job.images:
        with columns[image.index % len(columns)]:
            try:
                png = read_result(clients, job, image)
            except BackendError as error:
                st.warning(sentence_for(error, texts))
                continue
            st.image(data_url(png), width=320 if len(job.images) == 1 else "stretch")
            st.download_button(
                texts.download,
                png,
                f"kotoe_{job.id[:8]}_{image.index}.png",
                "image/png",
                key=f"save_{job.id}_{image.index}",
                on_click="ignore",
            )
    show_submit_again(session, clients, job, texts.same_prompt)


def show_submit_again(session: Session, clients: Clients, job: Job, label: str) -> None:
    """A button that hands in the same request with a new seed."""
    if not st.button(label, key=f"again_{job.id}"):
        return
    try:
        clients.backend.submit(replace(job.request, seed=None))
    except BackendError as error:
        st.error(sentence_for(error, texts_of(session)))
    else:
        st.rerun()


@st.cache_data(max_entries=256, show_spinner=False)
def cached_result(_clients: Clients, job_id: str, _image: Image, index: int) -> bytes:
    """A finished picture, fetched once."""
    del job_id, index
    return _clients.backend.read_picture(_image)


def read_result(clients: Clients, job: Job, image: Image) -> bytes:
    """A finished picture of a job."""
    png: bytes = cached_result(clients, job.id, image, image.index)
    return png


def show_gallery(session: Session, clients: Clients) -> None:
    """The user's pictures, newest first."""
    texts = texts_of(session)
    words = st.text_input(texts.search, key="search", on_change=setattr, args=(session, "page", 0))
    try:
        names = clients.gallery.search(session.owner, words)
        pages = max(1, -(-len(names) // PICTURES_PER_PAGE))
        session.page = min(session.page, pages - 1)
        first = session.page * PICTURES_PER_PAGE
        pictures = clients.gallery.pictures(session.owner, names[first : first + PICTURES_PER_PAGE])
    except GalleryUnavailable as error:
        st.warning(sentence_for(error, texts))
        st.button(texts.try_again, key="retry_gallery")
        return
    if not names:
        st.info(texts.nothing_found.format(as_text(words)) if words.strip() else texts.no_pictures)
        return
    columns = st.columns(4)
    for number, picture in enumerate(pictures):
        with columns[number % 4], st.container(border=True):
            st.image(data_url(picture.png), width="stretch")
            if st.button(short(picture.source_prompt), key=f"open_{picture.name}", type="tertiary"):
                st.dialog(texts.picture, width="large")(show_picture)(session, clients, picture)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            texts.newer,
            key="newer",
            disabled=session.page == 0,
            on_click=setattr,
            args=(session, "page", session.page - 1),
        )
        st.caption(texts.page_of.format(session.page + 1, pages, len(names)))
        st.button(
            texts.older,
            key="older",
            disabled=session.page + 1 >= pages,
            on_click=setattr,
            args=(session, "page", session.page + 1),
        )
        st.download_button(
            texts.zip, lambda: zipped(pictures), "kotoe.zip", "application/zip", key="zip", on_click="ignore"
        )


def show_picture(session: Session, clients: Clients, picture: Picture) -> None:
    """One picture, large, with how it was made and what can be done with it."""
    texts = texts_of(session)
    st.image(data_url(picture.png), width="stretch")
    st.markdown(f"**{as_text(picture.source_prompt)}**")
    record = picture.record
    st.caption(as_text(picture.prompt))
    st.caption(
        f"{picture.made_at.astimezone():%Y-%m-%d %H:%M} · {record.get('model')} · seed {picture.seed} · "
        f"{record.get('sampler')} {record.get('steps')}+{record.get('upsample_steps')} · "
        f"guidance {record.get('guidance_scale')}"
    )
    with st.container(horizontal=True):
        st.download_button(
            texts.download, picture.png, picture.name, "image/png", key=f"get_{picture.name}", on_click="ignore"
        )
        if st.button(texts.use_settings, key=f"use_{picture.name}", on_click=session.use_settings, args=(record,)):
            st.rerun()
        confirm = st.session_state.get("confirm_delete") == picture.name
        if not confirm and st.button(texts.delete, key=f"delete_{picture.name}"):
            st.session_state.confirm_delete = picture.name
            st.rerun(scope="fragment")
    if st.session_state.get("confirm_delete") == picture.name:
        st.warning(texts.delete_question)
        with st.container(horizontal=True):
            if st.button(texts.delete_yes, key=f"yes_{picture.name}", type="primary"):
                st.session_state.confirm_delete = None
                try:
                    clients.gallery.delete(session.owner, picture.name)
                except GalleryUnavailable as error:
                    st.error(sentence_for(error, texts))
                else:
                    st.toast(texts.deleted)
                    st.rerun()
            if st.button(texts.keep, key=f"no_{picture.name}"):
                st.session_state.confirm_delete = None
                st.rerun(scope="fragment")


def model_of(status: Status | None) -> str:
    """The model in use; the embedded one while nobody can tell."""
    return status.model if status is not None and status.model in QUALITY_STEPS else "kotoe-mini"


def data_url(png: bytes) -> str:
    """A PNG that no single process has to keep for the browser."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def as_text(words: str) -> str:
    """What the user wrote, so that Markdown takes it for what it is."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]()#+-.!|~$:<>" else sign for sign in escape(words, quote=False))


def short(words: str, most: int = 40) -> str:
    """The beginning of a prompt, for a button."""
    flat = as_text(" ".join(words.split())[:most])
    return flat + "…" * (len(" ".join(words.split())) > most) or "—"

"""The user's jobs, a card each, followed while they are live."""

import time

import streamlit as st

from frontend_streamlit.browser_storage import data_url, save
from frontend_streamlit.clients import Clients
from frontend_streamlit.clients.backend import BackendError, BackendUnavailable, Image, Job
from frontend_streamlit.clients.model import ModelDescription
from frontend_streamlit.page.shared import as_text, shows_unexpected_errors, texts_of
from frontend_streamlit.state.session import Session
from frontend_streamlit.texts import duration, sentence_for

POLL_INTERVAL_S = 1.0  # while a job is live
RETRY_INTERVAL_S = 5.0  # while the backend does not answer
SHOWN_JOBS = 12
SHOWN_AFTER_END_S = 1800  # an ended job keeps its card for so long; its pictures stay in the gallery
RESULT_WIDTH, RESULT_WIDTH_OF_MANY, PREVIEW_WIDTH = 256, 152, 192  # pixels


def show_jobs(session: Session, clients: Clients) -> None:
    """A card for each job; asked for again only while one is live, or while nobody answers."""
    jobs = read_jobs(session, clients)
    interval_s = poll_interval_s(jobs, clients)
    st.subheader(texts_of(session).jobs, anchor=False)
    st.fragment(run_every=interval_s)(follow_jobs)(session, clients, [jobs], interval_s)


def read_jobs(session: Session, clients: Clients) -> list[Job] | BackendError:
    """The user's jobs, newest first, or why nobody knows them."""
    try:
        return clients.backend.list_jobs(session.owner, SHOWN_JOBS)
    except BackendError as error:
        return error


def poll_interval_s(jobs: list[Job] | BackendError, clients: Clients) -> float | None:
    """How soon to ask again; None: nothing changes by itself."""
    if isinstance(jobs, BackendError):
        return RETRY_INTERVAL_S if clients.gpu_vm is None else None  # a machine that sleeps is not asked
    return POLL_INTERVAL_S if any(not job.has_ended for job in jobs) else None


def follow_jobs(
    session: Session, clients: Clients, first: list[list[Job] | BackendError], interval_s: float | None
) -> None:
    """The cards, as they are now.

    Args:
        first: the answer to show first, taken out by the first run.
    """
    texts = texts_of(session)
    with shows_unexpected_errors(texts):
        jobs = first.pop() if first else read_jobs(session, clients)
        if isinstance(jobs, BackendError):
            sentence = sentence_for(jobs, texts)
            is_shown = session.submit_error is not None and sentence_for(session.submit_error, texts) == sentence
            sleeps = clients.gpu_vm is not None and isinstance(jobs, BackendUnavailable)  # which is shown elsewhere
            if not is_shown and not sleeps:
                st.warning(sentence)
        else:
            draw_job_cards(session, clients, jobs)
        if poll_interval_s(jobs, clients) != interval_s:
            st.rerun()  # of the whole page, which then asks more or less often; last: no click on a card is lost


def draw_job_cards(session: Session, clients: Clients, jobs: list[Job]) -> None:
    """Cards of the jobs that are live or have not ended long ago."""
    oldest = time.time() - SHOWN_AFTER_END_S
    shown = [
        job for job in jobs if not job.has_ended or (job.id not in session.cards.dismissed and job.created_at > oldest)
    ]
    if not shown:
        st.caption(texts_of(session).no_jobs)
    for job in shown:
        with st.container(border=True, key=f"job_{job.id}"):
            draw_job_card(session, clients, job)


def draw_job_card(session: Session, clients: Clients, job: Job) -> None:
    """One job: what was asked, how far it is, its pictures."""
    texts = texts_of(session)
    label, key = (texts.dismiss, f"dismiss_{job.id}") if job.has_ended else (texts.cancel, f"cancel_{job.id}")
    action = (session.cards.dismiss, job.id) if job.has_ended else (session.cards.cancel, job.id, clients)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{as_text(job.request.source_prompt or job.request.prompt)}**", width="content")
        st.button(label, key=key, type="tertiary", on_click=session.act, args=action)
    if job.unknown_words:
        st.caption(texts.left_out.format(as_text(texts.comma.join(job.unknown_words))))
    if error := session.cards.cancel_errors.pop(job.id, None):
        st.error(sentence_for(error, texts))
    if job.status == "succeeded":
        draw_results(session, clients, job)
    elif job.status == "failed":
        st.error(texts.failed.get(job.error_code or "", texts.failed[""]))
        if job.error_code != "unreadable_request":  # its settings are lost
            show_submit_again(session, clients, job, texts.try_again)
    elif job.status == "cancelled":
        st.caption(texts.status[job.status])
    else:
        st.progress(job.progress.fraction if job.progress else 0.0, text=progress_line(job, session))
        if job.preview:
            st.image(job.preview, width=PREVIEW_WIDTH * min(job.request.n, 4))


def progress_line(job: Job, session: Session) -> str:
    """Where a live job is, in words."""
    texts = texts_of(session)
    parts = [texts.status[job.status]]
    if job.position is not None:
        parts.append(texts.place.format(job.position))
    if job.progress is not None:
        stage = stage_label(job.progress.stage, session.model, session.language)
        parts.append(f"{stage} {job.progress.step}/{job.progress.total_steps}")
    if job.eta_s is not None:
        parts.append(texts.eta.format(duration(job.eta_s, texts)))
    return texts.between_facts.join(parts)


def stage_label(name: str, model: ModelDescription | None, language: str) -> str:
    """What a stage is called: its bare name, where the model does not say."""
    stages = model.stages if model is not None else ()
    return next((stage.label.in_language(language) for stage in stages if stage.name == name), name)


def draw_results(session: Session, clients: Clients, job: Job) -> None:
    """The pictures of a job that has succeeded."""
    texts = texts_of(session)
    with st.container(horizontal=True):
        for image in job.images:
            with st.container(width=RESULT_WIDTH if len(job.images) == 1 else RESULT_WIDTH_OF_MANY):
                try:
                    png = read_result(clients, job, image)
                except BackendError as error:
                    st.warning(sentence_for(error, texts))
                    continue
                st.image(data_url(png), width="stretch")
                if st.button(texts.download, key=f"save_{job.id}_{image.index}"):
                    save(png, f"kotoe_{job.id[:8]}_{image.index}.png", "image/png")
    show_submit_again(session, clients, job, texts.same_prompt)


def show_submit_again(session: Session, clients: Clients, job: Job, label: str) -> None:
    """A button that hands in the same request with a new seed."""
    again = (session.submit, job.request.with_new_seed(), clients)
    if st.button(label, key=f"again_{job.id}", on_click=session.act, args=again):
        st.rerun()  # of the whole page, which shows what became of it


@st.cache_data(max_entries=256, show_spinner=False)
def cached_result(_clients: Clients, job_id: str, _image: Image, index: int) -> bytes:
    """A finished picture, fetched once."""
    del job_id, index
    return _clients.backend.read_picture(_image)


def read_result(clients: Clients, job: Job, image: Image) -> bytes:
    """A finished picture of a job."""
    png: bytes = cached_result(clients, job.id, image, image.index)
    return png

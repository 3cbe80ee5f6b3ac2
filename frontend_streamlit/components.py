"""The parts of the page, each drawn by one function."""

import base64
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape

import streamlit as st

from frontend_streamlit.backend_client import BackendError, BackendUnavailable, Image, Job, Status
from frontend_streamlit.clients import Clients
from frontend_streamlit.gallery import GalleryUnavailable, Picture, zipped
from frontend_streamlit.gpu_vm import BootPhase, GpuVm, GpuVmState, VmStatus
from frontend_streamlit.gpu_vm_errors import GpuOutOfStock, GpuPermissionMissing, GpuQuotaMissing, GpuVmError
from frontend_streamlit.pending import Pending
from frontend_streamlit.session import (
    GUIDANCE_SCALES,
    MAX_PICTURES,
    MAX_SEED,
    QUALITY_STEPS,
    SAMPLERS,
    STEPS,
    UPSAMPLE_STEPS,
    Session,
)
from frontend_streamlit.texts import EXAMPLES, LANGUAGES, Texts, duration, sentence_for

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 1.0  # while a job is live
RETRY_INTERVAL_S = 5.0  # while the backend does not answer
GPU_POLL_INTERVAL_S = 3.0  # while something waits for the machine
SHOWN_JOBS = 12
SHOWN_AFTER_END_S = 1800  # an ended job keeps its card for so long; its pictures stay in the gallery
PICTURES_PER_PAGE = 12
THUMBNAIL_WIDTH, RESULT_WIDTH, PREVIEW_WIDTH = 160, 256, 192  # pixels
GPU_PHASES = (VmStatus.STARTING, BootPhase.BOOT, BootPhase.DRIVER, BootPhase.PULL, BootPhase.LOADING, BootPhase.READY)
PEOPLE = frozenset(
    ("person", "people", "man", "men", "woman", "women", "boy", "boys", "girl", "girls", "child", "children", "face")
)


def texts_of(session: Session) -> Texts:
    """The page's texts in the visit's language."""
    return LANGUAGES[session.language]


@contextmanager
def surprises_told(texts: Texts) -> Iterator[None]:
    """Tell the user of what nobody foresaw; the log has the rest. Streamlit's own reruns and stops pass."""
    try:
        yield
    except Exception:
        logger.exception("a part of the page could not be drawn")
        st.error(texts.surprise)


def show_header(session: Session, clients: Clients, status: Status | None) -> None:
    """Name, language switch, which part of the page."""
    texts = texts_of(session)
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
    told = ""
    if status is not None:
        told = texts.model_is_loading
        if status.is_ready:
            told = texts.backend_state.format(status.model, status.device, status.queued_jobs)
    st.caption(" — ".join(filter(None, (texts.tagline, told))))
    if session.is_surprised:
        session.is_surprised = False
        st.error(texts.surprise)
    views = {"draw": texts.draw_view, "gallery": texts.gallery_view}
    st.segmented_control(
        texts.gallery_view,
        list(views),
        format_func=views.__getitem__,
        key="view",
        label_visibility="collapsed",
        required=True,
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
        on_change=session.act,
        args=(session.read_prompt, clients.translator),
        persist_state="session",
    )


def show_examples(session: Session, clients: Clients, model: str) -> None:
    """Prompts to click."""
    st.caption(texts_of(session).examples)
    with st.container(horizontal=True):
        for number, example in enumerate(EXAMPLES.get(model, EXAMPLES["kotoe-mini"])):
            st.button(
                example,
                key=f"example_{number}",
                on_click=session.act,
                args=(session.take_example, example, clients.translator),
            )


def show_english(session: Session, clients: Clients, status: Status | None) -> None:
    """The translation, open to changes, and what it does not say."""
    texts = texts_of(session)
    st.text_area(
        texts.english, key="english", max_chars=1000, height=110, help=texts.english_help, persist_state="session"
    )
    translation = session.translation
    if session.translation_error is not None:
        st.warning(sentence_for(session.translation_error, texts))
        st.button(
            texts.translate_again,
            key="retry_translation",
            on_click=session.act,
            args=(session.translate, clients.translator),
        )
    elif session.is_edited and session.is_stale and st.session_state.prompt.strip():
        st.info(texts.english_kept)
        st.button(
            texts.translate_again,
            key="translate_again",
            on_click=session.act,
            args=(session.translate, clients.translator),
        )
    elif translation is not None:
        name = "edited" if session.is_edited else translation.translator
        if not session.is_edited and translation.english == translation.source:
            name = "english"
        st.caption(texts.translated_by.get(name, name))
        if session.is_edited and translation.english:
            st.button(
                texts.undo_translation,
                key="undo",
                on_click=session.act,
                args=(session.restore_translation,),
                type="tertiary",
            )
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
        left.number_input(texts.count, 1, MAX_PICTURES, key="count", persist_state="session")
        right.segmented_control(
            texts.quality,
            list(texts.qualities),
            format_func=texts.qualities.__getitem__,
            key="quality",
            on_change=session.act,
            args=(session.choose_quality,),
            persist_state="session",
        )
        left.segmented_control(
            texts.seed_mode,
            list(texts.seed_modes),
            format_func=texts.seed_modes.__getitem__,
            key="seed_mode",
            required=True,
            persist_state="session",
        )
        right.number_input(
            texts.seed,
            0,
            MAX_SEED,
            key="seed",
            disabled=st.session_state.seed_mode != "fixed",
            persist_state="session",
        )
        st.markdown(f"**{texts.advanced}**")
        left, right = st.columns(2)
        for column, label, limits, key in (
            (left, texts.steps, STEPS, "steps"),
            (right, texts.upsample_steps, UPSAMPLE_STEPS, "upsample_steps"),
        ):
            column.slider(
                label,
                *limits,
                key=key,
                on_change=session.act,
                args=(session.name_quality,),
                persist_state="session",
            )
        left.slider(
            texts.guidance,
            *GUIDANCE_SCALES,
            step=0.5,
            key="guidance",
            help=texts.guidance_help,
            persist_state="session",
        )
        right.selectbox(texts.sampler, SAMPLERS, key="sampler", persist_state="session")
        st.text_input(texts.negative, key="negative", max_chars=1000, help=texts.negative_help, persist_state="session")


def show_draw_button(session: Session, clients: Clients) -> None:
    """Hand in what the user asks for."""
    texts = texts_of(session)

    def draw() -> None:
        if session.draw(clients):
            st.toast(texts.submitted)

    st.button(texts.draw, key="draw", type="primary", width="stretch", on_click=session.act, args=(draw,))
    if session.submit_error is not None:
        st.error(sentence_for(session.submit_error, texts))
        if str(session.submit_error) and session.language == "en":
            st.caption(as_text(str(session.submit_error)))
    elif session.has_nothing_to_draw and not st.session_state.english.strip():
        st.warning(texts.nothing_to_draw)


def show_gpu(session: Session, clients: Clients, status: Status | None) -> None:
    """The GPU machine: asleep, or on its way to draw what waits for it."""
    gpu_vm, waiting = clients.gpu_vm, session.pending
    if gpu_vm is None:
        return
    if waiting is not None:
        st.fragment(run_every=GPU_POLL_INTERVAL_S)(follow_gpu)(session, clients, gpu_vm)
    elif status is None:
        texts = texts_of(session)
        try:
            state = gpu_state(gpu_vm)
        except GpuVmError as error:
            show_gpu_error(error, texts)
        else:
            is_asleep = state.status in (VmStatus.ASLEEP, VmStatus.STOPPING)
            st.info(texts.gpu_asleep if is_asleep else gpu_line(state, texts))


@st.cache_resource(ttl=5, show_spinner=False)
def gpu_state(_gpu_vm: GpuVm) -> GpuVmState:
    """Where the machine is, asked at most every five seconds while nothing waits for it."""
    return _gpu_vm.state()


def follow_gpu(session: Session, clients: Clients, gpu_vm: GpuVm) -> None:
    """Phase and time of the machine that something waits for; hands that in when the machine is ready."""
    texts = texts_of(session)
    waiting = session.pending
    with surprises_told(texts):
        if waiting is None:
            return
        with st.container(border=True):
            prompt = waiting.request.source_prompt or waiting.request.prompt
            st.markdown(texts.gpu_waking.format(f"**{as_text(prompt)}**"))
            draw_gpu_state(session, clients, gpu_vm, waiting)
            if st.button(texts.gpu_give_up, key="give_up_gpu", on_click=session.act, args=(session.stop_waiting,)):
                st.rerun()
        if session.pending is None:
            st.rerun()  # of the whole page, which then follows the job


def draw_gpu_state(session: Session, clients: Clients, gpu_vm: GpuVm, waiting: Pending) -> None:
    """How far the machine is, or why it is not."""
    texts = texts_of(session)
    try:
        state = session.follow_gpu(waiting, clients, gpu_vm)
    except GpuVmError as error:  # the next run asks again
        show_gpu_error(session.gpu_error or error, texts)
        is_stuck = True
    else:
        is_stuck = state.phase is BootPhase.ERROR or state.status is VmStatus.ASLEEP
        phase = state.phase or state.status
        if session.gpu_error is not None:
            show_gpu_error(session.gpu_error, texts)
        elif state.phase is BootPhase.ERROR:
            st.error(texts.gpu_failed)
        else:
            done = GPU_PHASES.index(phase) / len(GPU_PHASES) if phase in GPU_PHASES else 0.0
            st.progress(done, text=gpu_line(state, texts))
    if is_stuck and not session.is_start_due:
        st.button(texts.gpu_wake_again, key="wake_gpu", on_click=session.act, args=(session.wake, gpu_vm))


def gpu_line(state: GpuVmState, texts: Texts) -> str:
    """Where the machine is, in words."""
    line = texts.gpu_phases[state.phase if state.status is VmStatus.RUNNING else state.status]
    if state.elapsed_s is None:
        return line
    minutes, seconds = divmod(round(state.elapsed_s), 60)
    return texts.gpu_elapsed.format(line, f"{minutes}:{seconds:02}")


def show_gpu_error(error: GpuVmError, texts: Texts) -> None:
    """Why the machine does not come, and what exactly is missing where Google named it."""
    st.error(sentence_for(error, texts))
    match error:
        case GpuPermissionMissing(permission=detail) | GpuQuotaMissing(quota=detail):
            pass
        case GpuOutOfStock(zones_available=zones):
            detail = ", ".join(zones)
        case _:
            detail = ""
    if detail:
        st.caption(as_text(detail))


def show_jobs(session: Session, clients: Clients) -> None:
    """A card for each job; asked for again only while one is live, or while nobody answers."""
    jobs = read_jobs(session, clients)
    interval_s = poll_interval_s(jobs, clients)
    st.subheader(texts_of(session).jobs, anchor=False)
    st.fragment(run_every=interval_s)(follow_jobs)(session, clients, [jobs], interval_s)


def read_jobs(session: Session, clients: Clients) -> list[Job] | BackendError:
    """The user's jobs, newest first, or why they can't be told."""
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
    with surprises_told(texts):
        jobs = first.pop() if first else read_jobs(session, clients)
        if poll_interval_s(jobs, clients) != interval_s:
            st.rerun()  # of the whole page, which then asks more or less often
        if isinstance(jobs, BackendError):
            if clients.gpu_vm is None or not isinstance(jobs, BackendUnavailable):  # its sleep is told elsewhere
                st.warning(sentence_for(jobs, texts))
            return
        oldest = time.time() - SHOWN_AFTER_END_S
        shown = [
            job for job in jobs if not job.has_ended or (job.id not in session.dismissed and job.created_at > oldest)
        ]
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
        label, key, act = texts.dismiss, f"dismiss_{job.id}", session.dismiss
    else:
        label, key, act = texts.cancel, f"cancel_{job.id}", session.cancel
    button.button(label, key=key, type="tertiary", on_click=session.act, args=(act, job.id, clients))
    if error := session.cancel_errors.pop(job.id, None):
        st.error(sentence_for(error, texts))
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
            st.image(job.preview, width=PREVIEW_WIDTH * min(job.request.n, 4))


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
    with st.container(horizontal=True):
        for image in job.images:
            with st.container(width=RESULT_WIDTH):
                try:
                    png = read_result(clients, job, image)
                except BackendError as error:
                    st.warning(sentence_for(error, texts))
                    continue
                st.image(data_url(png), width="stretch")
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
    if session.gallery_error is not None:
        st.error(sentence_for(session.gallery_error, texts))
        session.gallery_error = None
    words = st.text_input(
        texts.search,
        key="search",
        on_change=session.act,
        args=(session.turn_page, 0),
        persist_state="session",
    )
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
    with st.container(horizontal=True):  # as many side by side as there is room for
        for picture in pictures:
            with st.container(border=True, width=THUMBNAIL_WIDTH, key=f"card_{picture.name}"):
                st.image(data_url(picture.png), width="stretch")
                if st.button(short(picture.source_prompt), key=f"open_{picture.name}", type="tertiary"):
                    st.dialog(texts.picture, width="large")(show_picture)(session, clients, picture)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            texts.newer,
            key="newer",
            disabled=session.page == 0,
            on_click=session.act,
            args=(session.turn_page, session.page - 1),
        )
        st.caption(texts.page_of.format(session.page + 1, pages, len(names)))
        st.button(
            texts.older,
            key="older",
            disabled=session.page + 1 >= pages,
            on_click=session.act,
            args=(session.turn_page, session.page + 1),
        )
        st.download_button(
            texts.zip, lambda: zipped(pictures), "kotoe.zip", "application/zip", key="zip", on_click="ignore"
        )


def show_picture(session: Session, clients: Clients, picture: Picture) -> None:
    """One picture, large, with how it was made and what can be done with it."""
    with surprises_told(texts_of(session)):
        draw_picture(session, clients, picture)


def draw_picture(session: Session, clients: Clients, picture: Picture) -> None:
    """The inside of the dialog."""
    texts = texts_of(session)
    record = picture.record
    st.image(data_url(picture.png), width="stretch")
    st.markdown(f"**{as_text(picture.source_prompt)}**")
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
        for label, key, act, arguments in (
            (texts.use_settings, "use", session.use_settings, (record,)),
            (texts.same_prompt, "again", session.draw_again, (record, clients)),
        ):
            if st.button(label, key=f"{key}_{picture.name}", on_click=session.act, args=(act, *arguments)):
                st.rerun()  # without the dialog
        if session.to_delete != picture.name:
            st.button(
                texts.delete,
                key=f"delete_{picture.name}",
                on_click=session.act,
                args=(session.ask_to_delete, picture.name),
            )
    if session.to_delete == picture.name:
        confirm_deletion(session, clients, picture)


def confirm_deletion(session: Session, clients: Clients, picture: Picture) -> None:
    """Deleting takes a second click."""
    texts = texts_of(session)

    def delete() -> None:
        if session.delete(picture.name, clients):
            st.toast(texts.deleted)

    st.warning(texts.delete_question)
    with st.container(horizontal=True):
        yes, no = f"yes_{picture.name}", f"no_{picture.name}"
        if st.button(texts.delete_yes, key=yes, type="primary", on_click=session.act, args=(delete,)):
            st.rerun()  # without the dialog
        st.button(texts.keep, key=no, on_click=session.act, args=(session.ask_to_delete, ""))


def model_of(session: Session, status: Status | None) -> str:
    """The model in use; while nobody can tell the one before, or else the embedded one."""
    told = status.model if status is not None else None
    return told if told in QUALITY_STEPS else session.model or "kotoe-mini"


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

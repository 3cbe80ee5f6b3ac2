"""The GPU machine as the page shows it: asleep, or on its way to draw what waits for it."""

import streamlit as st

from frontend_streamlit.clients import Clients
from frontend_streamlit.clients.backend import Status
from frontend_streamlit.clients.gpu_vm import BootPhase, GpuVm, GpuVmState, VmStatus
from frontend_streamlit.clients.gpu_vm_errors import GpuOutOfStock, GpuPermissionMissing, GpuQuotaMissing, GpuVmError
from frontend_streamlit.page.shared import as_text, shows_unexpected_errors, texts_of
from frontend_streamlit.state.session import Session
from frontend_streamlit.texts import Texts, sentence_for

POLL_INTERVAL_S = 3.0  # while something waits for the machine
PHASES = (VmStatus.STARTING, BootPhase.BOOT, BootPhase.DRIVER, BootPhase.PULL, BootPhase.LOADING, BootPhase.READY)


def show_gpu(session: Session, clients: Clients, status: Status | None) -> None:
    """The GPU machine: asleep, or on its way to draw what waits for it."""
    texts = texts_of(session)
    for prompt, error in session.waiting.refused.items():
        st.error(f"**{as_text(prompt)}**: {sentence_for(error, texts)}")
    gpu_vm = clients.gpu_vm
    if gpu_vm is None:
        return
    if session.waiting.requests:
        st.fragment(run_every=POLL_INTERVAL_S)(follow_gpu)(session, clients, gpu_vm)
    elif status is None:
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
    waiting = list(session.waiting.requests)
    with shows_unexpected_errors(texts):
        with st.container(border=True):
            st.markdown(texts.gpu_waking)
            draw_gpu_state(session, clients, gpu_vm)
            for pending in session.waiting.requests:
                prompt = pending.request.source_prompt or pending.request.prompt
                with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                    st.markdown(f"**{as_text(prompt)}**", width="content")
                    key, give_up = f"give_up_{pending.key}", (session.waiting.remove, pending.key)
                    if st.button(texts.cancel, key=key, type="tertiary", on_click=session.act, args=give_up):
                        st.rerun()
        if session.waiting.requests != waiting:
            st.rerun()  # of the whole page, which then follows the jobs


def draw_gpu_state(session: Session, clients: Clients, gpu_vm: GpuVm) -> None:
    """How far the machine is, or why it is not."""
    texts = texts_of(session)
    try:
        state = session.waiting.follow(clients, gpu_vm)
    except GpuVmError as error:  # the next run asks again
        show_gpu_error(session.waiting.gpu_error or error, texts)
        is_stuck = True
    else:
        is_stuck = state.phase is BootPhase.ERROR or state.status is VmStatus.ASLEEP
        phase = state.phase or state.status
        if session.waiting.gpu_error is not None:
            show_gpu_error(session.waiting.gpu_error, texts)
        elif state.phase is BootPhase.ERROR:
            st.error(texts.gpu_failed)
        elif session.waiting.backend_error is not None:
            st.info(sentence_for(session.waiting.backend_error, texts))
        else:
            done = PHASES.index(phase) / len(PHASES) if phase in PHASES else 0.0
            st.progress(done, text=gpu_line(state, texts))
    if is_stuck and not session.waiting.is_start_due:
        st.button(texts.gpu_wake_again, key="wake_gpu", on_click=session.act, args=(session.waiting.wake, gpu_vm))


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

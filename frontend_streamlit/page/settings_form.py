"""How to draw: fields for what the model leaves open. Values out of range can't be entered."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from frontend_streamlit.clients.model import ModelDescription
from frontend_streamlit.page.shared import texts_of
from frontend_streamlit.state.form import MAX_CHARACTERS, MAX_PICTURES, MAX_SEED, steps_key
from frontend_streamlit.state.session import Session

GUIDANCE_STEP = 0.5


def show_settings(session: Session) -> None:
    """Number and seed of the pictures, and what the model can be asked for."""
    texts, form, model = texts_of(session), session.form, session.model
    with st.expander(texts.settings):
        left, right = st.columns(2)
        left.number_input(texts.count, 1, MAX_PICTURES, key="count", persist_state="session")
        if model is not None and model.qualities:
            show_qualities(right, session, model)
        left.segmented_control(
            texts.seed_mode,
            list(texts.seed_modes),
            format_func=texts.seed_modes.__getitem__,
            key="seed_mode",
            required=True,
            persist_state="session",
        )
        right.number_input(
            texts.seed, 0, MAX_SEED, key="seed", disabled=form.seed_mode != "fixed", persist_state="session"
        )
        if model is not None:
            st.markdown(f"**{texts.advanced}**")
            show_advanced(session, model)


def show_qualities(place: DeltaGenerator, session: Session, model: ModelDescription) -> None:
    """Named numbers of steps."""
    texts = texts_of(session)
    place.segmented_control(
        texts.quality,
        list(model.qualities),
        format_func=lambda name: texts.qualities.get(name, name),
        key="quality",
        on_change=session.act,
        args=(session.form.choose_quality, model),
        persist_state="session",
    )


def show_advanced(session: Session, model: ModelDescription) -> None:
    """The steps of each stage, and what else the model has a choice of."""
    texts = texts_of(session)
    left, right = st.columns(2)
    for number, stage in enumerate(model.stages if model.max_steps > 1 else ()):
        (right if number % 2 else left).slider(
            texts.steps.format(stage.label.in_language(session.language)),
            1,
            model.max_steps,
            key=steps_key(stage.name),
            on_change=session.act,
            args=(session.form.name_quality, model),
            persist_state="session",
        )
    if model.guidance is not None and model.guidance.least < model.guidance.most:
        left.slider(
            texts.guidance,
            model.guidance.least,
            model.guidance.most,
            step=GUIDANCE_STEP,
            key="guidance",
            help=texts.guidance_help,
            persist_state="session",
        )
    right.selectbox(texts.sampler, model.samplers, key="sampler", persist_state="session")
    if model.has_negative_prompt:
        st.text_input(
            texts.negative, key="negative", max_chars=MAX_CHARACTERS, help=texts.negative_help, persist_state="session"
        )

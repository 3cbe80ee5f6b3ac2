"""How to draw: fields for what the model leaves open, with their words. Values out of range can't be entered."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from frontend_streamlit.clients.model import ModelDescription, Text
from frontend_streamlit.state.form import MAX_CHARACTERS, MAX_PICTURES, MAX_SEED, steps_key
from frontend_streamlit.state.session import Session

GUIDANCE_STEP = 0.5

SETTINGS = Text(ja="設定", en="Settings")
COUNT = Text(ja="枚数", en="Pictures")
SEED_MODE = Text(ja="シード", en="Seed")
SEED_MODES = {"random": Text(ja="毎回変える", en="new each time"), "fixed": Text(ja="固定する", en="fixed")}
SEED = Text(ja="シードの番号", en="Seed number")
ADVANCED = Text(ja="くわしい設定", en="More settings")


def show_settings(session: Session) -> None:
    """Number and seed of the pictures, and what the model can be asked for."""
    language, form, model = session.language, session.form, session.model
    with st.expander(SETTINGS.in_language(language)):
        left, right = st.columns(2)  # anew for each row: a phone has them one below the other
        left.number_input(COUNT.in_language(language), 1, MAX_PICTURES, key="count", persist_state="session")
        if model is not None and model.qualities:
            show_qualities(right, session, model)
        left, right = st.columns(2)
        left.segmented_control(
            SEED_MODE.in_language(language),
            list(SEED_MODES),
            format_func=lambda mode: SEED_MODES[mode].in_language(language),
            key="seed_mode",
            required=True,
            persist_state="session",
        )
        right.number_input(
            SEED.in_language(language),
            0,
            MAX_SEED,
            key="seed",
            disabled=form.seed_mode != "fixed",
            persist_state="session",
        )
        if model is not None:
            st.markdown(f"**{ADVANCED.in_language(language)}**")
            show_advanced(session, model)


QUALITY = Text(ja="品質", en="Quality")
QUALITIES = {  # any other is called by its name
    "fast": Text(ja="速い", en="fast"),
    "standard": Text(ja="標準", en="standard"),
    "high": Text(ja="高品質", en="high"),
}


def show_qualities(place: DeltaGenerator, session: Session, model: ModelDescription) -> None:
    """Named numbers of steps."""
    language = session.language
    place.segmented_control(
        QUALITY.in_language(language),
        list(model.qualities),
        format_func=lambda name: QUALITIES[name].in_language(language) if name in QUALITIES else name,
        key="quality",
        wrap=True,
        on_change=session.act,
        args=(session.form.choose_quality, model),
        persist_state="session",
    )


STEPS = Text(ja="ステップ数（{}）", en="Steps ({})")
GUIDANCE = Text(ja="文への忠実さ", en="Closeness to the text")
GUIDANCE_HELP = Text(
    ja="大きいほど文に忠実に、小さいほど自由に描きます。", en="High follows the text closely, low draws more freely."
)
SAMPLER = Text(ja="サンプラー", en="Sampler")
NEGATIVE = Text(ja="描いてほしくないもの（英語）", en="What to stay away from (English)")
NEGATIVE_HELP = Text(ja="ここに書いたものから離れるように描きます。", en="The picture is pushed away from this.")


def show_advanced(session: Session, model: ModelDescription) -> None:
    """The steps of each stage, and what else the model has a choice of."""
    language = session.language
    left, right = st.columns(2)
    for number, stage in enumerate(model.stages if model.max_steps > 1 else ()):
        (right if number % 2 else left).slider(
            STEPS.in_language(language).format(stage.label.in_language(language)),
            1,
            model.max_steps,
            key=steps_key(stage.name),
            on_change=session.act,
            args=(session.form.name_quality, model),
            persist_state="session",
        )
    if model.guidance is not None and model.guidance.least < model.guidance.most:
        left.slider(
            GUIDANCE.in_language(language),
            model.guidance.least,
            model.guidance.most,
            step=GUIDANCE_STEP,
            key="guidance",
            help=GUIDANCE_HELP.in_language(language),
            persist_state="session",
        )
    right.selectbox(SAMPLER.in_language(language), model.samplers, key="sampler", persist_state="session")
    if model.has_negative_prompt:
        st.text_input(
            NEGATIVE.in_language(language),
            key="negative",
            max_chars=MAX_CHARACTERS,
            help=NEGATIVE_HELP.in_language(language),
            persist_state="session",
        )

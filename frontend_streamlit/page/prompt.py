"""The upper part of the page: name, prompt, English, settings, the button; and what all parts share."""

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import streamlit as st

from frontend_streamlit.clients import Clients
from frontend_streamlit.clients.backend import Status
from frontend_streamlit.drawable import drawable
from frontend_streamlit.state.draft import (
    GUIDANCE_SCALES,
    MAX_CHARACTERS,
    MAX_PICTURES,
    MAX_SEED,
    SAMPLERS,
    STEPS,
    UPSAMPLE_STEPS,
)
from frontend_streamlit.state.session import QUALITY_STEPS, Session
from frontend_streamlit.texts import ENGLISH_EXAMPLES, EXAMPLES, LANGUAGES, Texts, sentence_for
from frontend_streamlit.translation.offline import DEFAULT_DATA_DIR

logger = logging.getLogger(__name__)

STYLE = """<style>
.stMainBlockContainer {padding-top: 2.5rem; padding-bottom: 2rem}  /* Streamlit: 6 and 10 */
.st-key-keep, .st-key-save {display: none}
</style>"""
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
        max_chars=MAX_CHARACTERS,
        height=110,
        on_change=session.act,
        args=(session.read_prompt, clients.translator),
        persist_state="session",
    )
    session.act(session.catch_up, clients.translator)


def show_examples(session: Session, clients: Clients, model: str) -> None:
    """Prompts to click."""
    examples = EXAMPLES.get(model, EXAMPLES["kotoe-mini"])
    if model == "glide" and clients.translator.is_closed_vocabulary:
        examples = ENGLISH_EXAMPLES
    st.caption(texts_of(session).examples)
    with st.container(horizontal=True, gap="xsmall"):
        for number, example in enumerate(examples):
            st.button(
                example,
                key=f"example_{number}",
                on_click=session.act,
                args=(session.take_example, example, clients.translator),
            )


def show_drawable(session: Session, clients: Clients, status: Status | None) -> None:
    """All that a model with a vocabulary can draw."""
    if status is None or not status.vocabulary:
        return
    texts = texts_of(session)
    with st.expander(texts.drawable):
        for kind, words in drawable(clients.settings.mini_dir or DEFAULT_DATA_DIR).items():
            known = [word for word in words if status.draws(word.english)]
            names = [
                (word.japanese if session.language == "ja" else word.english)
                + texts.weak * (word.english in status.experimental)
                for word in known
            ]
            st.markdown(f"**{texts.drawable_kinds[kind]}** {texts.comma.join(names)}")
        st.caption(texts.drawable_help)


def name_of(phrase: str, session: Session, clients: Clients) -> str:
    """A phrase that the model knows, in the page's language."""
    if session.language != "ja":
        return phrase
    words = itertools.chain(*drawable(clients.settings.mini_dir or DEFAULT_DATA_DIR).values())
    return next((word.japanese for word in words if word.english == phrase), phrase)


def show_english(session: Session) -> None:
    """The translation, open to changes, and who wrote it."""
    texts = texts_of(session)
    st.text_area(texts.english, key="english", max_chars=MAX_CHARACTERS, height=110, persist_state="session")
    translation = session.translation
    told = texts.english_help
    if session.is_edited:
        told = texts.translated_by["edited"]
    elif translation is not None and translation.english:
        name = "english" if translation.english == translation.source else translation.translator
        told = texts.translated_by.get(name, name)
    st.caption(told)  # always one line: a translation that arrives must not move the button from under the mouse


def show_notices(session: Session, clients: Clients, status: Status | None) -> None:
    """Why there is no translation, what it leaves out, and what the model can't draw of it."""
    texts = texts_of(session)
    translation = session.translation
    button = ""
    if session.translation_error is not None:
        st.warning(sentence_for(session.translation_error, texts))
        button = "retry_translation"
    elif session.is_edited and session.is_stale and st.session_state.prompt.strip():
        st.info(texts.english_kept)
        button = "translate_again"
    elif session.is_edited and translation is not None and translation.english:
        st.button(texts.undo_translation, key="undo", on_click=session.act, args=(session.restore_translation,))
    if button:
        retry = (session.translate, clients.translator)
        st.button(texts.translate_again, key=button, on_click=session.act, args=retry)
    if translation is not None and not session.is_edited:
        if translation.unknown_words:
            told = [texts.unknown_words.format(as_text(texts.comma.join(translation.unknown_words)))]
            for unknown_word, known in translation.suggestions.items():
                told.append(texts.suggestion.format(as_text(unknown_word), as_text(known)))
            st.warning(" ".join(told))
        elif not translation.english:
            st.warning(texts.nothing_understood)
        if translation.not_drawn and (status is None or status.model != "glide"):
            st.info(texts.not_drawn.format(as_text(texts.comma.join(translation.not_drawn))))
    english = st.session_state.english
    if status is not None and english:
        if unknown := status.unknown_words(english):
            st.warning(texts.model_unknown_words.format(texts.comma.join(unknown)))
        for phrase in status.experimental_phrases(english):
            st.warning(texts.experimental.format(name_of(phrase, session, clients)))
        if status.model == "glide" and PEOPLE & set(english.lower().replace(",", " ").split()):
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
        st.text_input(
            texts.negative, key="negative", max_chars=MAX_CHARACTERS, help=texts.negative_help, persist_state="session"
        )


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
    elif session.has_nothing_to_draw and not any(st.session_state[key].strip() for key in ("prompt", "english")):
        st.warning(texts.nothing_to_draw)


def model_of(session: Session, status: Status | None) -> str:
    """The model in use; while nobody can tell the one before, or else the embedded one."""
    told = status.model if status is not None else None
    return told if told in QUALITY_STEPS else session.model or "kotoe-mini"


def as_text(words: str) -> str:
    """What the user wrote, so that Markdown takes it for what it is."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]()#+-.!|~$:<>" else sign for sign in escape(words, quote=False))

"""What to draw: the prompt, its English, what is to be said about both, and the button."""

import streamlit as st

from frontend_streamlit.clients import Clients
from frontend_streamlit.clients.model import ModelDescription, Text
from frontend_streamlit.page.shared import as_text, texts_of
from frontend_streamlit.state.form import MAX_CHARACTERS
from frontend_streamlit.state.session import Session
from frontend_streamlit.texts import sentence_for
from frontend_streamlit.translation import TranslationError, Translator


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
        args=(session.draft.follow_prompt, clients.translator),
        persist_state="session",
    )
    session.act(session.draft.catch_up, clients.translator)


def show_english(session: Session) -> None:
    """The translation, open to changes, and who wrote it."""
    texts, draft = texts_of(session), session.draft
    st.text_area(texts.english, key="english", max_chars=MAX_CHARACTERS, height=110, persist_state="session")
    translation = draft.translation
    author = texts.english_help
    if draft.is_edited:
        author = texts.translated_by["edited"]
    elif translation is not None and translation.english:
        name = "english" if translation.english == translation.source else translation.translator
        author = texts.translated_by.get(name, name)
    st.caption(author)  # always one line: a translation that arrives must not move the button from under the mouse


def show_draw_button(session: Session, clients: Clients) -> None:
    """Hand in what the user asks for."""
    texts, form = texts_of(session), session.form

    def draw() -> None:
        if session.draw(clients):
            st.toast(texts.submitted)

    st.button(texts.draw, key="draw", type="primary", width="stretch", on_click=session.act, args=(draw,))
    if session.submit_error is not None:
        st.error(sentence_for(session.submit_error, texts))
        if str(session.submit_error) and session.language == "en":
            st.caption(as_text(str(session.submit_error)))
    elif session.has_nothing_to_draw and not form.source_prompt.strip() and not form.english.strip():
        st.warning(texts.nothing_to_draw)


def show_notices(session: Session, clients: Clients) -> None:
    """Why there is no translation, what it leaves out, and what to expect of the model."""
    show_notices_on_translation(session, clients)
    if session.model is not None:
        show_notices_on_english(session, session.model)


def show_notices_on_translation(session: Session, clients: Clients) -> None:
    """Why there is no translation, or an old one, and what it leaves out."""
    texts, draft = texts_of(session), session.draft
    translation = draft.translation
    button = ""
    if draft.translation_error is not None:
        st.warning(sentence_for(draft.translation_error, texts))
        button = "retry_translation"
    elif draft.is_edited and draft.is_stale and session.form.source_prompt.strip():
        st.info(texts.english_kept)
        button = "translate_again"
    elif draft.is_edited and translation is not None and translation.english:
        st.button(texts.undo_translation, key="undo", on_click=session.act, args=(draft.undo_edits,))
    if button:
        retry = (draft.translate, clients.translator)
        st.button(texts.translate_again, key=button, on_click=session.act, args=retry)
    if translation is None or draft.is_edited:
        return
    if translation.unknown_words:
        sentences = [texts.unknown_words.format(as_text(texts.comma.join(translation.unknown_words)))]
        for unknown_word, known in translation.suggestions.items():
            sentences.append(texts.suggestion.format(as_text(unknown_word), as_text(known)))
        st.warning(" ".join(sentences))
    elif not translation.english:
        st.warning(texts.nothing_understood)
    reads_any_english = session.model is not None and session.model.vocabulary is None
    if translation.not_drawn and not reads_any_english:
        st.info(texts.not_drawn.format(as_text(texts.comma.join(translation.not_drawn))))


def show_notices_on_english(session: Session, model: ModelDescription) -> None:
    """What the model does not know, or does not draw well."""
    texts, english, vocabulary = texts_of(session), session.form.english, model.vocabulary
    if vocabulary is not None:
        if unknown := vocabulary.unknown_words(english):
            st.warning(texts.model_unknown_words.format(texts.comma.join(unknown)))
        for phrase in vocabulary.experimental_phrases(english):
            st.warning(texts.experimental.format(vocabulary.name_of(phrase, session.language)))
    for caution in model.warnings:
        if caution.concerns(english):
            st.warning(caution.text.in_language(session.language))


def show_examples(session: Session, clients: Clients) -> None:
    """Prompts to click, as far as the translator knows their words."""
    model = session.model
    if model is None or not model.examples:
        return
    st.caption(texts_of(session).examples)
    with st.container(horizontal=True, gap="xsmall"):
        for number, example in enumerate(model.examples):
            words = example.ja if is_read(example, model, clients.translator) else example.en
            st.button(
                words,
                key=f"example_{number}",
                on_click=session.act,
                args=(session.draft.take_example, words, clients.translator),
            )


def is_read(example: Text, model: ModelDescription, translator: Translator) -> bool:
    """Whether the translator makes the example's English of its Japanese; one that knows any word does."""
    if not translator.is_closed_vocabulary:
        return True
    if model.vocabulary is None:
        return False  # it says more than the translator's words can
    try:
        return translator.translate(example.ja).english == example.en
    except TranslationError:
        return False


def show_vocabulary(session: Session) -> None:
    """All that a model with a vocabulary can draw; its words, where it does not name things."""
    if session.model is None or session.model.vocabulary is None:
        return
    texts, vocabulary = texts_of(session), session.model.vocabulary
    with st.expander(texts.drawable):
        for kind, things in vocabulary.things.items():
            names = [
                thing.in_language(session.language) + texts.weak * (thing.en in vocabulary.experimental)
                for thing in things
                if vocabulary.draws(thing.en)
            ]
            if names:
                st.markdown(f"**{texts.drawable_kinds.get(kind, kind)}** {texts.comma.join(names)}")
        if vocabulary.things:
            st.caption(texts.drawable_help)
        else:
            st.markdown(as_text(texts.comma.join(sorted(vocabulary.words - vocabulary.function_words))))

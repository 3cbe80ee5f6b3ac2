"""Everything that the page says: one table of sentences, filled in by a file per language."""

from collections.abc import Mapping
from dataclasses import dataclass

from frontend_streamlit.clients.backend import LimitReached, QueueFull
from frontend_streamlit.clients.gpu_vm import BootPhase, VmStatus

LONGEST_WAIT_S = 120  # that the backend names, however long it takes


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The page in one language; `{}` is filled in by who shows it."""

    tagline: str
    language: str
    draw_view: str
    gallery_view: str
    prompt: str
    prompt_hint: str
    examples: str
    english: str
    english_help: str
    translated_by: Mapping[str, str]
    unknown_words: str
    suggestion: str
    not_drawn: str
    nothing_understood: str
    english_kept: str
    translate_again: str
    undo_translation: str
    model_unknown_words: str
    left_out: str
    experimental: str
    drawable: str
    drawable_kinds: Mapping[str, str]
    drawable_help: str
    weak: str
    comma: str
    draw: str
    nothing_to_draw: str
    submitted: str
    jobs: str
    no_jobs: str
    status: Mapping[str, str]
    between_facts: str
    place: str
    eta: str
    cancel: str
    dismiss: str
    failed: Mapping[str, str]
    try_again: str
    same_prompt: str
    use_settings: str
    download: str
    zip: str
    delete: str
    delete_question: str
    delete_yes: str
    keep: str
    deleted: str
    search: str
    no_pictures: str
    nothing_found: str
    page_of: str
    newer: str
    older: str
    picture: str
    private_link: str
    sign_in: str
    sign_in_text: str
    sign_out: str
    not_allowed: str
    not_on_the_list: str
    backend_state: str
    model_is_loading: str
    seconds: str
    minutes: str
    retry_in: str
    gpu_asleep: str
    gpu_waking: str
    gpu_elapsed: str
    gpu_phases: Mapping[VmStatus | BootPhase | None, str]
    gpu_failed: str
    gpu_wake_again: str
    errors: Mapping[type[Exception], str]
    unexpected_error: str


def sentence_for(error: Exception, texts: Texts) -> str:
    """What the page says about an error: the sentence of its class, or of the nearest class above it."""
    kinds = type(error).__mro__
    sentence = next((texts.errors[kind] for kind in kinds if kind in texts.errors), texts.unexpected_error)
    wait_s = error.retry_after_s if isinstance(error, QueueFull | LimitReached) else None
    if wait_s is None or wait_s >= LONGEST_WAIT_S:
        return sentence
    return texts.retry_in.format(sentence, duration(wait_s, texts))


def duration(seconds: float, texts: Texts) -> str:
    """A time to wait, rounded as people say it."""
    if seconds < 59.5:
        return texts.seconds.format(max(1, round(seconds)))
    return texts.minutes.format(max(1, round(seconds / 60)))

"""What one visit of the page remembers; only its methods change it. Jobs and pictures live outside, under the owner."""

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from frontend_streamlit.backend_client import JobRequest
from frontend_streamlit.identity import new_owner, owner_in_link
from frontend_streamlit.translation import Translation, TranslationError, Translator

OWNER_PARAMETER, LANGUAGE_PARAMETER = "u", "lang"
MAX_SEED = 2**32 - 1
QUALITY_STEPS = {  # base and upsampling steps of each quality, by model
    "kotoe-mini": {"fast": (10, 3), "standard": (20, 4), "high": (50, 8)},
    "glide": {"fast": (12, 6), "standard": (20, 10), "high": (60, 27)},
}
GUIDANCE = {"kotoe-mini": 2.5, "glide": 3.0}
DEFAULTS: dict[str, Any] = {  # of the widgets; their keys
    "prompt": "",
    "english": "",
    "count": 1,
    "quality": "standard",
    "seed_mode": "random",
    "seed": 0,
    "steps": 20,
    "upsample_steps": 4,
    "guidance": 2.5,
    "sampler": "dpmpp_2m",
    "negative": "",
    "search": "",
    "view": "draw",
}


@dataclass
class Session:
    """One visit."""

    owner: str
    language: str = "ja"
    translation: Translation | None = None
    translation_error: TranslationError | None = None
    submit_error: Exception | None = None
    dismissed: set[str] = field(default_factory=set)  # ids of ended jobs whose cards were closed
    page: int = 0  # of the gallery
    model: str = ""  # the model that the step numbers were chosen for

    @staticmethod
    def current(account_owner: str | None = None) -> "Session":
        """This visit's session: of the account, or else of the link; a visit without either gets a new link."""
        owner = account_owner or owner_in_link(st.query_params.get(OWNER_PARAMETER))
        session: Session | None = st.session_state.get("session")
        if session is None or (owner is not None and session.owner != owner):
            session = Session(owner=owner or new_owner())
            st.session_state.session = session
        if account_owner is None:
            st.query_params[OWNER_PARAMETER] = session.owner
        session.language = "en" if st.query_params.get(LANGUAGE_PARAMETER) == "en" else "ja"
        for key, value in DEFAULTS.items():  # written back, or Streamlit forgets what is not on the screen
            st.session_state[key] = st.session_state.get(key, value)
        return session

    def switch_language(self) -> None:
        """To the other one; stands in the link, so that it stays."""
        st.query_params[LANGUAGE_PARAMETER] = "ja" if self.language == "en" else "en"

    def adapt_to(self, model: str) -> None:
        """Take the numbers that suit a model, once it is known or another one runs."""
        if model in QUALITY_STEPS and model != self.model:
            self.model = model
            st.session_state.guidance = GUIDANCE[model]
            self.choose_quality()

    def choose_quality(self) -> None:
        """Set both step counts by the quality that was chosen."""
        steps = QUALITY_STEPS[self.model or "kotoe-mini"][st.session_state.quality]
        st.session_state.steps, st.session_state.upsample_steps = steps

    @property
    def is_edited(self) -> bool:
        """Whether the English is not what the translator wrote."""
        written = self.translation.english if self.translation else ""
        return bool(st.session_state.english.strip()) and st.session_state.english != written

    @property
    def is_stale(self) -> bool:
        """Whether the Japanese has changed since it was translated."""
        translated: str = self.translation.source if self.translation else ""
        return bool(st.session_state.prompt.strip() != translated)

    def take_example(self, prompt: str, translator: Translator) -> None:
        """Put an example into the field and translate it."""
        st.session_state.prompt = prompt
        self.translate(translator)

    def read_prompt(self, translator: Translator) -> None:
        """The prompt has changed: translate it, unless that would overwrite what the user wrote in English."""
        if not self.is_edited:
            self.translate(translator)

    def translate(self, translator: Translator) -> None:
        """Translate the prompt; an error is kept for the page to tell, and the English for the user to write."""
        source = st.session_state.prompt.strip()
        self.translation_error = None
        if not source:
            self.translation = None
            st.session_state.english = ""
            return
        try:
            self.translation = translator.translate(source)
        except TranslationError as error:
            self.translation, self.translation_error = None, error
            return
        st.session_state.english = self.translation.english

    def restore_translation(self) -> None:
        """Forget the user's edits of the English."""
        if self.translation:
            st.session_state.english = self.translation.english

    def request(self) -> JobRequest:
        """What the user asks for now."""
        state = st.session_state
        translator = "edited" if self.is_edited else self.translation.translator if self.translation else ""
        return JobRequest(
            prompt=state.english.strip(),
            source_prompt=state.prompt.strip(),
            translator=translator,
            negative_prompt=state.negative.strip(),
            n=state.count,
            seed=state.seed if state.seed_mode == "fixed" else None,
            guidance_scale=state.guidance,
            steps=state.steps,
            upsample_steps=state.upsample_steps,
            sampler=state.sampler,
            owner=self.owner,
        )

    def use_settings(self, record: dict[str, Any]) -> None:
        """Take everything from a picture's record, its seed too, and go where it can be drawn again."""
        state = st.session_state
        state.prompt = record.get("source_prompt") or record["prompt"]
        state.english = record["prompt"]
        self.translation = Translation(
            source=state.prompt, english=state.english, translator=record.get("translator") or "edited"
        )
        self.translation_error = None
        state.negative = record.get("negative_prompt", "")
        state.steps, state.upsample_steps = record["steps"], record["upsample_steps"]
        state.guidance, state.sampler = record["guidance_scale"], record["sampler"]
        state.seed_mode, state.seed = "fixed", record["seed"]
        state.count = 1
        state.view = "draw"

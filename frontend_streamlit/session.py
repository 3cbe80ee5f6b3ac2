"""What one visit of the page remembers; only its methods change it. Jobs and pictures live outside, under the owner."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import streamlit as st

from frontend_streamlit import pending
from frontend_streamlit.backend_client import BackendError, BackendUnavailable, JobRequest, ModelLoading
from frontend_streamlit.clients import Clients
from frontend_streamlit.gallery import GalleryUnavailable
from frontend_streamlit.gpu_vm import BootPhase, GpuVm, GpuVmState, VmStatus
from frontend_streamlit.gpu_vm_errors import GpuVmError
from frontend_streamlit.identity import new_owner, owner_in_link
from frontend_streamlit.pending import Pending
from frontend_streamlit.translation import Translation, TranslationError, Translator

Number = TypeVar("Number", int, float)
logger = logging.getLogger(__name__)

OWNER_PARAMETER, LANGUAGE_PARAMETER, PENDING_PARAMETER = "u", "lang", "waiting"
MAX_SEED = 2**32 - 1
MAX_PICTURES = 8
STEPS, UPSAMPLE_STEPS, GUIDANCE_SCALES = (1, 250), (1, 100), (1.0, 20.0)  # from, to
SAMPLERS = ("dpmpp_2m", "ddim", "ddpm")
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
    submit_error: BackendError | None = None
    has_nothing_to_draw: bool = False  # but was asked to
    is_surprised: bool = False  # something went wrong that nobody foresaw
    gpu_error: GpuVmError | None = None  # why the machine could not be woken
    is_start_due: bool = False  # the machine can only be started once it has stopped
    cancel_errors: dict[str, BackendError] = field(default_factory=dict)  # by job
    dismissed: set[str] = field(default_factory=set)  # ids of ended jobs whose cards were closed
    page: int = 0  # of the gallery
    gallery_error: GalleryUnavailable | None = None  # why a picture could not be deleted
    to_delete: str = ""  # the picture whose deletion waits for a second click
    model: str = ""  # the model that the step numbers were chosen for

    @staticmethod
    def current(account_owner: str | None = None) -> "Session":
        """This visit's session: of the account, or else of the link; a visit without either gets a new link."""
        owner = account_owner or owner_in_link(st.query_params.get(OWNER_PARAMETER))
        session: Session | None = st.session_state.get("session")
        if session is None or (owner is not None and session.owner != owner):
            session = Session(owner=owner or new_owner())
            st.session_state.session = session
            for key, value in DEFAULTS.items():
                st.session_state.setdefault(key, value)
            if session.pending and not st.session_state.prompt:
                session.take_texts(vars(session.pending.request))
        if account_owner is None and st.query_params.get(OWNER_PARAMETER) != session.owner:
            st.query_params[OWNER_PARAMETER] = session.owner
        session.language = "en" if st.query_params.get(LANGUAGE_PARAMETER) == "en" else "ja"
        return session

    def act(self, change: Callable[..., object], *arguments: object) -> None:
        """Run what a widget calls; what nobody foresaw is told by the page, which stays."""
        self.is_surprised = False
        try:
            change(*arguments)
        except Exception:
            logger.exception("a widget's action failed")
            self.is_surprised = True

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
        qualities = QUALITY_STEPS[self.model or "kotoe-mini"]
        if st.session_state.quality not in qualities:
            st.session_state.quality = "standard"
        st.session_state.steps, st.session_state.upsample_steps = qualities[st.session_state.quality]

    def name_quality(self) -> None:
        """Mark the quality that has these step counts, or none."""
        steps = (st.session_state.steps, st.session_state.upsample_steps)
        qualities = QUALITY_STEPS[self.model or "kotoe-mini"].items()
        st.session_state.quality = next((name for name, numbers in qualities if numbers == steps), None)

    @property
    def is_edited(self) -> bool:
        """Whether the English is not what the translator wrote."""
        written = self.translation.english if self.translation else ""
        return bool(st.session_state.english.strip()) and st.session_state.english != written

    @property
    def is_stale(self) -> bool:
        """Whether the Japanese has changed since it was translated."""
        translated = self.translation.source if self.translation else ""
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
        """Translate the prompt; an error is kept for the page to tell, and English that the user wrote with it."""
        source = st.session_state.prompt.strip()
        was_edited = self.is_edited
        self.translation_error = None
        if not source:
            self.translation = None
            st.session_state.english = ""
            return
        try:
            self.translation = translator.translate(source)
        except TranslationError as error:
            logger.warning("not translated: %s: %s", type(error).__name__, error)
            self.translation, self.translation_error = None, error
            if not was_edited:
                st.session_state.english = ""  # it says something else than the prompt
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

    def draw(self, clients: Clients) -> bool:
        """Hand in what the user asks for; where the GPU sleeps it waits for it. Whether it was handed in."""
        self.submit_error = None
        if not st.session_state.english.strip():
            self.read_prompt(clients.translator)
        request = self.request()
        self.has_nothing_to_draw = not request.prompt
        return bool(request.prompt) and self.submit(Pending(request), clients)

    def submit(self, waiting: Pending, clients: Clients) -> bool:
        """Hand in a request; an error is kept for the page to tell. Whether it was handed in."""
        try:
            clients.backend.submit(waiting.request, waiting.key)
        except BackendUnavailable as error:
            if clients.gpu_vm is None:
                self.submit_error = error
            else:
                st.query_params[PENDING_PARAMETER] = pending.to_link(waiting)
                self.wake(clients.gpu_vm)
        except BackendError as error:
            self.submit_error = error
        else:
            return True
        return False

    @property
    def pending(self) -> Pending | None:
        """What waits for the GPU machine."""
        return pending.from_link(st.query_params.get(PENDING_PARAMETER), self.owner)

    def stop_waiting(self) -> None:
        """Nothing waits for the GPU machine any more."""
        self.gpu_error, self.is_start_due = None, False
        st.query_params.pop(PENDING_PARAMETER, None)

    def wake(self, gpu_vm: GpuVm) -> None:
        """Start the machine, now or once it has stopped; an error is kept for the page to tell."""
        self.gpu_error = None
        try:
            self.is_start_due = gpu_vm.start().status is VmStatus.STOPPING
        except GpuVmError as error:
            logger.warning("the GPU machine could not be started: %s: %s", type(error).__name__, error)
            self.gpu_error, self.is_start_due = error, False

    def follow_gpu(self, waiting: Pending, clients: Clients, gpu_vm: GpuVm) -> GpuVmState:
        """Where the machine is; once it answers, what waits is handed in and waits no more.

        Raises:
            GpuVmError: it can't be asked.
        """
        state = gpu_vm.state()
        if state.status is VmStatus.ASLEEP and self.is_start_due:
            self.wake(gpu_vm)
        elif state.status is VmStatus.ASLEEP:
            self.gpu_error = self.gpu_error or state.failure
        elif state.status is VmStatus.RUNNING:
            self.gpu_error = None
            if state.phase in (BootPhase.READY, None):
                self.submit_when_ready(waiting, clients)
        return state

    def submit_when_ready(self, waiting: Pending, clients: Clients) -> None:
        """Hand in what waits, if the backend is as far; what it refuses is told as for any other request."""
        try:
            clients.backend.submit(waiting.request, waiting.key)
        except (BackendUnavailable, ModelLoading):
            return
        except BackendError as error:
            self.submit_error = error
        self.stop_waiting()

    def take_texts(self, record: dict[str, Any]) -> None:
        """Put what a picture or request was made of into the fields."""
        state = st.session_state
        state.prompt = record.get("source_prompt") or record["prompt"]
        state.english = record["prompt"]
        self.translation_error = None
        self.translation = Translation(
            source=state.prompt, english=state.english, translator=record.get("translator") or "edited"
        )

    def cancel(self, job_id: str, clients: Clients) -> None:
        """Cancel a job; an error is kept for its card to tell."""
        try:
            clients.backend.cancel(job_id)
        except BackendError as error:
            self.cancel_errors[job_id] = error

    def dismiss(self, job_id: str) -> None:
        """Close the card of a job that has ended."""
        self.dismissed.add(job_id)

    def ask_to_delete(self, name: str) -> None:
        """Let the deletion of a picture wait for a second click; of none if the name is empty."""
        self.to_delete = name

    def delete(self, name: str, clients: Clients) -> bool:
        """Delete a picture; an error is kept for the gallery to tell. Whether it is gone."""
        self.to_delete = ""
        try:
            clients.gallery.delete(self.owner, name)
        except GalleryUnavailable as error:
            self.gallery_error = error
            return False
        return True

    def turn_page(self, page: int) -> None:
        """Show another page of the gallery."""
        self.page = page

    def use_settings(self, record: dict[str, Any]) -> None:
        """Take everything from a picture's record, its seed too, and go where it can be drawn again."""
        state = st.session_state
        self.take_texts(record)
        state.negative = record.get("negative_prompt", "")
        state.steps = within(STEPS, record.get("steps", state.steps))
        state.upsample_steps = within(UPSAMPLE_STEPS, record.get("upsample_steps", state.upsample_steps))
        state.guidance = within(GUIDANCE_SCALES, float(record.get("guidance_scale", state.guidance)))
        state.sampler = record["sampler"] if record.get("sampler") in SAMPLERS else state.sampler
        state.seed_mode, state.seed = "fixed", within((0, MAX_SEED), record.get("seed", 0))
        state.count = 1
        state.view = "draw"
        self.name_quality()

    def draw_again(self, record: dict[str, Any], clients: Clients) -> bool:
        """Draw what a picture shows once more, with a new seed. Whether it was handed in."""
        self.use_settings(record)
        st.session_state.seed_mode = "random"
        return self.draw(clients)


def within(limits: tuple[Number, Number], value: Number) -> Number:
    """The nearest value that may be entered."""
    return min(max(value, limits[0]), limits[1])

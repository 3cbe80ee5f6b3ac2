"""What one visit of the page remembers; only its methods change it. Jobs and pictures live outside, under the owner."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

import streamlit as st

from frontend_streamlit.clients import Clients
from frontend_streamlit.clients.backend import (
    BackendError,
    BackendUnavailable,
    JobRequest,
    LimitReached,
    ModelLoading,
    QueueFull,
)
from frontend_streamlit.clients.gallery import GalleryUnavailable
from frontend_streamlit.clients.gpu_vm import BootPhase, GpuVm, GpuVmState, VmStatus
from frontend_streamlit.clients.gpu_vm_errors import GpuVmError
from frontend_streamlit.clients.identity import new_owner, owner_in_link
from frontend_streamlit.state.draft import (
    GUIDANCE_SCALES,
    MAX_SEED,
    MAX_WAITING,
    SAMPLERS,
    STEPS,
    UPSAMPLE_STEPS,
    Draft,
    Fields,
    Pending,
    TooManyWait,
    read_draft,
    read_waiting,
    read_written,
)
from frontend_streamlit.translation import Translation, TranslationError, Translator

Number = TypeVar("Number", int, float)
logger = logging.getLogger(__name__)

OWNER_PARAMETER, LANGUAGE_PARAMETER = "u", "lang"
QUALITY_STEPS = {  # base and upsampling steps of each quality, by model
    "kotoe-mini": {"fast": (10, 3), "standard": (20, 4), "high": (50, 8)},
    "glide": {"fast": (12, 6), "standard": (20, 10), "high": (60, 27)},
}
GUIDANCE = {"kotoe-mini": 2.5, "glide": 3.0}
DEFAULTS: dict[str, Any] = dict(Fields()) | {"search": "", "view": "draw"}  # of the widgets; their keys


@dataclass
class Session:
    """One visit."""

    owner: str
    language: str = "ja"
    read: str = ""  # the prompt that was last given to the translator
    translation: Translation | None = None
    translation_error: TranslationError | None = None
    submit_error: BackendError | TooManyWait | None = None
    has_nothing_to_draw: bool = False  # but was asked to
    is_surprised: bool = False  # something went wrong that nobody foresaw
    is_known: bool = False  # the browser has told what it kept
    restored: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # fields not shown yet: before, and as kept
    waiting: list[Pending] = field(default_factory=list)  # for the GPU machine
    done: list[str] = field(default_factory=list)  # keys of what waits no more
    waits_on: BackendError | None = None  # why the machine, awake, does not take what waits yet
    refused: dict[str, BackendError] = field(default_factory=dict)  # after it had waited; by prompt
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

    def to_keep(self) -> dict[str, Any]:
        """What the browser keeps: JSON. Whose it is does not tell the owner."""
        fields = Fields.model_construct(**{key: st.session_state[key] for key in Fields.model_fields})
        draft = Draft.model_construct(fields=fields, translation=self.translation, model=self.model)
        return {
            "owner": sha256(self.owner.encode()).hexdigest()[:32],
            "is_known": self.is_known,
            "draft": draft.model_dump(mode="json"),
            "waiting": {waiting.key: asdict(waiting.request) | {"owner": ""} for waiting in self.waiting},
            "done": self.done,
        }

    def take_kept(self, kept: Any, translator: Translator) -> None:
        """Take back what the browser kept of an earlier visit."""
        if self.is_known:
            return
        self.is_known = True
        known = {waiting.key for waiting in self.waiting}
        self.waiting += [waiting for waiting in read_waiting(kept, self.owner) if waiting.key not in known]
        draft = read_draft(kept)
        if draft is None or self.has_words_unlike(Fields(), draft.fields, read_written(kept)):
            return
        self.restored = {key: (st.session_state[key], value) for key, value in draft.fields}
        self.restore()
        self.translation, self.model = draft.translation, draft.model or self.model
        self.read = draft.translation.source if draft.translation else ""
        self.read_prompt(translator)  # which may have been in the middle of being typed

    def has_words_unlike(self, *earlier: Fields) -> bool:
        """Whether prompt or English is none of these: new words. A browser whose server was replaced sends old ones."""
        return any(
            st.session_state[key] not in {getattr(fields, key) for fields in earlier} for key in ("prompt", "english")
        )

    def restore(self) -> None:
        """Put back what the browser kept until it has been shown.

        Streamlit forgets it if another run interrupts the one that shows it, and prefers an old value that a browser
        still has of a field which this session has not shown: so it is set anew each time.
        """
        for key, (before, kept) in self.restored.items():
            if st.session_state[key] in (before, kept):
                st.session_state[key] = kept

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
        """Translate the prompt if it has changed, unless that would overwrite what the user wrote in English."""
        if st.session_state.prompt.strip() != self.read and not self.is_edited:
            self.translate(translator)

    def catch_up(self, translator: Translator) -> None:
        """Make up for what Streamlit loses when the user acts during a run: a callback, or what a callback has set."""
        if self.translation and not self.is_stale and not st.session_state.english.strip():
            self.restore_translation()
        else:
            self.read_prompt(translator)

    def translate(self, translator: Translator) -> None:
        """Translate the prompt; an error is kept for the page to tell, and English that the user wrote with it."""
        source = st.session_state.prompt.strip()
        was_edited = self.is_edited
        self.read, self.translation_error = source, None
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
        self.refused.clear()
        if not st.session_state.english.strip():
            self.translate(clients.translator)
        request = self.request()
        self.has_nothing_to_draw = not request.prompt
        return bool(request.prompt) and self.submit(Pending(request), clients)

    def submit(self, pending: Pending, clients: Clients) -> bool:
        """Hand in a request; an error is kept for the page to tell. Whether it was handed in."""
        try:
            clients.backend.submit(pending.request, pending.key)
        except BackendUnavailable as error:
            if clients.gpu_vm is None:
                self.submit_error = error
            elif len(self.waiting) >= MAX_WAITING:
                self.submit_error = TooManyWait()
            else:
                self.waiting.append(pending)
                self.wake(clients.gpu_vm)
        except BackendError as error:
            self.submit_error = error
        else:
            return True
        return False

    def stop_waiting(self, key: str) -> None:
        """A request waits for the GPU machine no more."""
        self.waiting = [pending for pending in self.waiting if pending.key != key]
        self.done.append(key)
        if not self.waiting:
            self.gpu_error, self.is_start_due = None, False

    def wake(self, gpu_vm: GpuVm) -> None:
        """Start the machine, now or once it has stopped; an error is kept for the page to tell."""
        self.gpu_error = None
        try:
            self.is_start_due = gpu_vm.start().status is VmStatus.STOPPING
        except GpuVmError as error:
            logger.warning("the GPU machine could not be started: %s: %s", type(error).__name__, error)
            self.gpu_error, self.is_start_due = error, False

    def follow_gpu(self, clients: Clients, gpu_vm: GpuVm) -> GpuVmState:
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
                self.submit_waiting(clients)
        return state

    def submit_waiting(self, clients: Clients) -> None:
        """Hand in what waits, oldest first, as far as the backend takes it; what it refuses is told."""
        self.waits_on = None
        for pending in list(self.waiting):
            try:
                clients.backend.submit(pending.request, pending.key)
            except (BackendUnavailable, ModelLoading):
                return
            except (QueueFull, LimitReached) as error:
                self.waits_on = error
                return
            except BackendError as error:
                self.refused[pending.request.source_prompt or pending.request.prompt] = error
            self.stop_waiting(pending.key)

    def take_texts(self, record: dict[str, Any]) -> None:
        """Put what a picture or request was made of into the fields."""
        state = st.session_state
        self.restored.clear()
        state.prompt = record.get("source_prompt") or record["prompt"]
        state.english = record["prompt"]
        self.read, self.translation_error = state.prompt.strip(), None
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

"""What one visit of the page remembers; only its methods change it. Jobs and pictures live outside, under the owner."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import streamlit as st

from frontend_streamlit.clients import Clients
from frontend_streamlit.clients.backend import BackendError, BackendUnavailable, JobRequest
from frontend_streamlit.clients.gallery import Gallery, GalleryUnavailable
from frontend_streamlit.clients.identity import new_owner, owner_in_link
from frontend_streamlit.clients.model import ModelDescription
from frontend_streamlit.state.draft import Draft
from frontend_streamlit.state.form import Form
from frontend_streamlit.state.waiting import Pending, TooManyWait, Waiting
from frontend_streamlit.translation import Translator

logger = logging.getLogger(__name__)

OWNER_PARAMETER, LANGUAGE_PARAMETER = "u", "lang"


@dataclass
class Cards:
    """The cards of jobs."""

    cancel_errors: dict[str, BackendError] = field(default_factory=dict)  # by job
    dismissed: set[str] = field(default_factory=set)  # ids of ended jobs

    def cancel(self, job_id: str, clients: Clients) -> None:
        """Cancel a job; an error is for its card to show."""
        try:
            clients.backend.cancel(job_id)
        except BackendError as error:
            self.cancel_errors[job_id] = error

    def dismiss(self, job_id: str) -> None:
        """Close the card of a job that has ended."""
        self.dismissed.add(job_id)


@dataclass
class Album:
    """Where the user is in the gallery."""

    page: int = 0
    to_delete: str = ""  # the picture whose deletion waits for a second click
    error: GalleryUnavailable | None = None  # why a picture could not be deleted

    def turn_to(self, page: int) -> None:
        """Show another page."""
        self.page = page

    def ask_to_delete(self, name: str) -> None:
        """Let the deletion of a picture wait for a second click; of none if the name is empty."""
        self.to_delete = name

    def delete(self, owner: str, name: str, gallery: Gallery) -> bool:
        """Delete a picture; an error is for the page to show. Whether it is gone."""
        self.to_delete = ""
        try:
            gallery.delete(owner, name)
        except GalleryUnavailable as error:
            self.error = error
            return False
        return True


@dataclass
class Session:
    """One visit."""

    owner: str
    language: str = "ja"
    form: Form = field(default_factory=Form)
    draft: Draft = field(init=False)
    waiting: Waiting = field(default_factory=Waiting)  # for the GPU machine
    cards: Cards = field(default_factory=Cards)
    album: Album = field(default_factory=Album)
    model: ModelDescription | None = None  # the last that was seen
    numbers_of: str = ""  # the model that the form's numbers were chosen for
    submit_error: BackendError | TooManyWait | None = None
    has_nothing_to_draw: bool = False  # but was asked to
    has_unexpected_error: bool = False  # in a widget's action
    is_known: bool = False  # the browser has sent what it stored

    def __post_init__(self) -> None:
        self.draft = Draft(self.form)

    @staticmethod
    def current(account_owner: str | None = None) -> "Session":
        """This visit's session: of the account, or else of the link; a visit without either gets a new link."""
        owner = account_owner or owner_in_link(st.query_params.get(OWNER_PARAMETER))
        session: Session | None = st.session_state.get("session")
        if session is None or (owner is not None and session.owner != owner):
            session = Session(owner=owner or new_owner())
            st.session_state["session"] = session
            session.form.begin()
        if account_owner is None and st.query_params.get(OWNER_PARAMETER) != session.owner:
            st.query_params[OWNER_PARAMETER] = session.owner
        session.language = "en" if st.query_params.get(LANGUAGE_PARAMETER) == "en" else "ja"
        return session

    def act(self, change: Callable[..., object], *arguments: object) -> None:
        """Run what a widget calls; the page stays, and shows that something unexpected went wrong."""
        self.has_unexpected_error = False
        try:
            change(*arguments)
        except Exception:
            logger.exception("a widget's action failed")
            self.has_unexpected_error = True

    def to_store(self) -> dict[str, Any]:
        """What the browser stores: JSON. Whose it is does not give the owner away."""
        return {
            "owner": sha256(self.owner.encode()).hexdigest()[:32],
            "is_known": self.is_known,
            "draft": self.draft.to_store(self.numbers_of),
            "waiting": self.waiting.to_store(),
            "done": self.waiting.done,
        }

    def take_stored(self, stored: object, translator: Translator) -> None:
        """Take back what the browser stored of an earlier visit."""
        if self.is_known:
            return
        self.is_known = True
        self.waiting.take_stored(stored, self.owner)
        self.numbers_of = self.draft.take_stored(stored, translator) or self.numbers_of

    def switch_language(self) -> None:
        """To the other one; stands in the link, so that it stays."""
        st.query_params[LANGUAGE_PARAMETER] = "ja" if self.language == "en" else "en"

    def adapt_to(self, model: ModelDescription | None) -> None:
        """Take the numbers that suit a model, once it is known or another one runs; while it is not, keep the last."""
        if model is None:
            return
        self.model = model
        if model.id != self.numbers_of:
            self.numbers_of = model.id
            self.form.take_numbers_of(model)
        self.form.fit(model)

    def request(self) -> JobRequest:
        """What the user asks for now; a model that nobody knows is left every choice of numbers."""
        form = self.form
        choices: dict[str, Any] = {}
        if self.model is not None:
            choices = {stage.steps_field: form.steps[stage.name] for stage in self.model.stages}
            choices |= {"sampler": form.sampler, "model": self.model.id}
            if self.model.guidance is not None:
                choices["guidance_scale"] = form.guidance
            if self.model.has_negative_prompt:
                choices["negative_prompt"] = form.negative.strip()
        return JobRequest(
            prompt=form.english.strip(),
            source_prompt=form.source_prompt.strip(),
            translator=self.draft.translator,
            n=form.count,
            seed=form.seed if form.seed_mode == "fixed" else None,
            owner=self.owner,
            **choices,
        )

    def draw(self, clients: Clients) -> bool:
        """Hand in what the user asks for; where the GPU sleeps it waits for it. Whether it was handed in."""
        self.submit_error = None
        self.waiting.refused.clear()
        if not self.form.english.strip():
            self.draft.translate(clients.translator)
        request = self.request()
        self.has_nothing_to_draw = not request.prompt
        return bool(request.prompt) and self.submit(request, clients)

    def submit(self, request: JobRequest, clients: Clients) -> bool:
        """Hand in a request; an error is for the page to show. Whether it was handed in."""
        self.submit_error = None
        pending = Pending(request)
        try:
            clients.backend.submit(request, pending.key)
        except BackendUnavailable as error:
            if clients.gpu_vm is None:
                self.submit_error = error
                return False
            try:
                self.waiting.add(pending, clients.gpu_vm)
            except TooManyWait as too_many:
                self.submit_error = too_many
        except BackendError as error:
            self.submit_error = error
        else:
            return True
        return False

    def use_settings(self, record: dict[str, Any]) -> None:
        """Take everything from a picture's record, and go where it can be drawn again."""
        self.draft.take_texts(record)
        self.form.use(record, self.model)
        self.form.view = "draw"

    def draw_again(self, record: dict[str, Any], clients: Clients) -> bool:
        """Draw what a picture shows once more, with a new seed. Whether it was handed in."""
        self.use_settings(record)
        self.form.seed_mode = "random"
        return self.draw(clients)

"""The fields of the page: what they may contain, what they contain at first, and what they contain now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar, overload

import streamlit as st
from pydantic import BaseModel, ConfigDict, Field

from frontend_streamlit.clients.model import ModelDescription, Stage

MAX_CHARACTERS = 1000  # of a prompt
MAX_SEED = 2**32 - 1
MAX_PICTURES = 8
STANDARD_QUALITY = "standard"
SeedMode = Literal["random", "fixed"]
View = Literal["draw", "gallery"]
Content = TypeVar("Content")
Number = TypeVar("Number", int, float)


class Fields(BaseModel):
    """What the fields contain, by their keys; the browser stores them so. A model's own limits come on top."""

    model_config = ConfigDict(frozen=True)

    prompt: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""  # in the user's words
    english: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    count: Annotated[int, Field(ge=1, le=MAX_PICTURES)] = 1
    quality: str | None = STANDARD_QUALITY
    seed_mode: SeedMode = "random"
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    stage_steps: Mapping[str, int] = {}
    guidance: Annotated[float, Field(allow_inf_nan=False)] | None = None
    sampler: str = ""
    negative: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""

    def by_key(self) -> dict[str, Any]:
        """The values by the keys of the page's widgets; each stage's steps have a widget of their own."""
        values = {name: value for name, value in self if name != "stage_steps"}
        return values | {steps_key(stage): count for stage, count in self.stage_steps.items()}


TEXTS = ("prompt", "english", "negative")  # keys of the fields that the browser stores while they are being written
STEPS_KEY = "steps_"  # and the stage's name


def steps_key(stage: str) -> str:
    """The key of the widget that sets a stage's steps."""
    return STEPS_KEY + stage


class Entry(Generic[Content]):
    """What a field contains, as an attribute of `Form`; Streamlit's state has it, by default under the same name."""

    def __init__(self, key: str = "") -> None:
        self.key = key

    def __set_name__(self, owner: type, name: str) -> None:
        self.key = self.key or name

    @overload
    def __get__(self, form: None, owner: type) -> "Entry[Content]": ...
    @overload
    def __get__(self, form: "Form", owner: type) -> Content: ...
    def __get__(self, form: "Form | None", owner: type) -> "Entry[Content] | Content":
        if form is None:
            return self
        content: Content = st.session_state[self.key]
        return content

    def __set__(self, form: "Form", content: Content) -> None:
        st.session_state[self.key] = content


@dataclass
class Form:
    """What the fields of this visit contain now."""

    # Fields restored from the browser and not shown yet, by the widget's key: (content before, stored content)
    restored: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    source_prompt = Entry[str]("prompt")  # in the user's words; a request's `prompt` is the English
    english = Entry[str]()
    count = Entry[int]()
    quality = Entry[str | None]()  # None: the steps are no named quality's
    seed_mode = Entry[SeedMode]()
    seed = Entry[int]()
    guidance = Entry[float | None]()  # None: no model has been seen yet
    sampler = Entry[str]()
    negative = Entry[str]()
    search = Entry[str]()
    view = Entry[View]()

    def begin(self) -> None:
        """Put the defaults into fields that contain nothing yet."""
        for key, content in (Fields().by_key() | {"search": "", "view": "draw"}).items():
            st.session_state.setdefault(key, content)

    def fields(self) -> Fields:
        """What is to be stored: not what no model has been chosen for yet."""
        plain = {name: st.session_state[name] for name in Fields.model_fields if name != "stage_steps"}
        if not self.sampler:
            del plain["sampler"], plain["guidance"]
        return Fields.model_construct(**plain, stage_steps=self.steps)

    def take_back(self, fields: Fields) -> None:
        """Fill in what the browser stored."""
        self.restored = {key: (st.session_state.get(key), content) for key, content in fields.by_key().items()}
        self.restore()

    def restore(self) -> None:
        """Put back what the browser stored until it has been shown.

        Streamlit forgets it if another run interrupts the one that shows it, and prefers an old value that a browser
        still has of a field which this session has not shown: so it is set anew each time.
        """
        for key, (before, stored) in self.restored.items():
            if st.session_state.get(key) in (before, stored):
                st.session_state[key] = stored

    @property
    def steps(self) -> dict[str, int]:
        """The steps by stage, of all the models that this visit has seen."""
        keys = [str(key) for key in st.session_state if str(key).startswith(STEPS_KEY)]
        return {key.removeprefix(STEPS_KEY): st.session_state[key] for key in keys}

    def set_steps(self, stage: Stage, steps: int) -> None:
        """Choose the steps of a stage."""
        st.session_state[steps_key(stage.name)] = steps

    def take_numbers_of(self, model: ModelDescription) -> None:
        """Choose what suits a model; what was stored for another one no longer counts."""
        for key in ("guidance", "quality", *(steps_key(stage) for stage in self.steps)):
            self.restored.pop(key, None)
        self.guidance = model.guidance.default if model.guidance else None
        self.choose_quality(model)

    def fit(self, model: ModelDescription) -> None:
        """Bring what was chosen into a model's limits; its own choice where there is none yet."""
        if any(stage.name not in self.steps for stage in model.stages):
            self.choose_quality(model)
        for stage in model.stages:
            steps = self.steps[stage.name]
            if steps != (nearest := within((1, model.max_steps), steps)):
                self.set_steps(stage, nearest)
        if model.guidance is not None:
            guidance = model.guidance.default if self.guidance is None else self.guidance
            guidance = within((model.guidance.least, model.guidance.most), guidance)
            if guidance != self.guidance:  # a field that is set anew is sent anew
                self.guidance = guidance
        if self.sampler not in model.samplers:
            self.sampler = model.samplers[0]
        if self.quality is not None and self.quality not in model.qualities:
            self.name_quality(model)

    def choose_quality(self, model: ModelDescription) -> None:
        """Set the steps of all stages by the quality that was chosen."""
        if self.quality not in model.qualities:
            self.quality = STANDARD_QUALITY if STANDARD_QUALITY in model.qualities else None
        steps = model.qualities.get(self.quality or "", {})
        for stage in model.stages:
            self.set_steps(stage, steps.get(stage.name, stage.steps))

    def name_quality(self, model: ModelDescription) -> None:
        """Mark the quality that has these steps, or none."""
        chosen = {stage.name: self.steps[stage.name] for stage in model.stages}
        self.quality = next((name for name, steps in model.qualities.items() if steps == chosen), None)

    def choices(self, model: ModelDescription | None) -> dict[str, Any]:
        """What is asked for, by a request's names; a model that nobody knows is left every choice of its own."""
        choices: dict[str, Any] = {"n": self.count, "seed": self.seed if self.seed_mode == "fixed" else None}
        if model is None:
            return choices
        choices |= {stage.steps_field: self.steps[stage.name] for stage in model.stages}
        choices |= {"sampler": self.sampler, "model": model.id}
        if model.guidance is not None:
            choices["guidance_scale"] = self.guidance
        if model.has_negative_prompt:
            choices["negative_prompt"] = self.negative.strip()
        return choices

    def use(self, record: Mapping[str, Any], model: ModelDescription | None) -> None:
        """Take the settings of a picture's record, its seed too, as far as the model has them."""
        self.negative = record.get("negative_prompt") or ""
        self.seed_mode, self.seed = "fixed", within((0, MAX_SEED), record.get("seed") or 0)
        self.count = 1
        if model is None:
            return
        for stage in model.stages:
            self.set_steps(stage, record.get(stage.steps_field) or self.steps[stage.name])
        self.guidance = float(record.get("guidance_scale") or self.guidance or 0.0)
        self.sampler = record.get("sampler") or self.sampler
        self.fit(model)
        self.name_quality(model)


def within(limits: tuple[Number, Number], value: Number) -> Number:
    """The nearest value that may be entered."""
    return min(max(value, limits[0]), limits[1])

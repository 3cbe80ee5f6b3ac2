"""What the user's own browser keeps, so that a refresh or a lost connection loses nothing; never in a link or a log."""

import uuid
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from frontend_streamlit.clients.backend import JobRequest
from frontend_streamlit.translation import Translation

MAX_CHARACTERS = 1000  # of a prompt
MAX_SEED = 2**32 - 1
MAX_PICTURES = 8
STEPS, UPSAMPLE_STEPS, GUIDANCE_SCALES = (1, 250), (1, 100), (1.0, 20.0)  # from, to
Sampler = Literal["dpmpp_2m", "ddim", "ddpm"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)
MAX_WAITING = 10  # requests for the GPU machine
Kept = TypeVar("Kept")


class TooManyWait(Exception):
    """Nothing more can wait for the GPU machine."""


class Fields(BaseModel):
    """What the fields of the page contain, by their keys."""

    model_config = ConfigDict(frozen=True)

    prompt: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    english: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    count: Annotated[int, Field(ge=1, le=MAX_PICTURES)] = 1
    quality: Literal["fast", "standard", "high"] | None = "standard"
    seed_mode: Literal["random", "fixed"] = "random"
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    steps: Annotated[int, Field(ge=STEPS[0], le=STEPS[1])] = 20
    upsample_steps: Annotated[int, Field(ge=UPSAMPLE_STEPS[0], le=UPSAMPLE_STEPS[1])] = 4
    guidance: Annotated[float, Field(ge=GUIDANCE_SCALES[0], le=GUIDANCE_SCALES[1])] = 2.5
    sampler: Sampler = "dpmpp_2m"
    negative: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""


class Draft(BaseModel):
    """What the user is about to ask for."""

    model_config = ConfigDict(frozen=True)

    fields: Fields = Fields()
    translation: Translation | None = None
    model: str = ""  # that the numbers suit


@dataclass(frozen=True)
class Pending:
    """A request that waits for the GPU machine, and the key that makes one job of it, however many tabs hand it in."""

    request: JobRequest
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


def read_draft(kept: Any) -> Draft | None:
    """The draft in what a browser kept; None if it has none, or one of another version of the page."""
    if not isinstance(kept, dict):
        return None
    draft = valid(Draft, kept.get("draft"))
    typed = kept.get("typed")  # since then
    if not isinstance(typed, dict) or not typed:
        return draft
    draft = draft or Draft()
    fields = valid(Fields, draft.fields.model_dump() | typed)
    return draft.model_copy(update={"fields": fields}) if fields else draft


def read_written(kept: Any) -> Fields:
    """The fields as the page last had them written, before what was typed since then."""
    draft = valid(Draft, kept.get("draft")) if isinstance(kept, dict) else None
    return (draft or Draft()).fields


def read_waiting(kept: Any, owner: str) -> list[Pending]:
    """The requests in what a browser kept, oldest first, in the name of whoever visits now."""
    documents = kept.get("waiting") if isinstance(kept, dict) else None
    if not isinstance(documents, dict):
        return []
    requests = {key: valid(JobRequest, document) for key, document in documents.items()}
    return [Pending(replace(request, owner=owner), str(key)) for key, request in requests.items() if request]


def valid(kind: type[Kept], document: Any) -> Kept | None:
    """A record of that kind; None if the document is none."""
    try:
        return TypeAdapter(kind).validate_python(document)
    except ValidationError:
        return None

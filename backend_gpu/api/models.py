"""What the model is: a description as data, for pages and programs that know no model by name."""

import logging
import threading
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from backend_gpu.api.dependencies import CurrentService, bearer
from backend_gpu.api.errors import guarded_errors
from backend_gpu.api.schemas import Document
from backend_gpu.engine import EngineInfo
from backend_gpu.errors import BadParameter, GalleryUnavailable, ModelLoading, ModelNotFound
from backend_gpu.gallery import MODEL_FOLDER
from backend_gpu.jobs.request import MAX_NAME_CHARACTERS, MAX_STEPS, STEPS_FIELDS, StepsField
from backend_gpu.service import Service

logger = logging.getLogger(__name__)

PUBLISH_RETRY_S = 60.0
SPRITES = "sprites.webp"
ALIASES = (  # that OpenAI's clients send by themselves
    *("gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "chatgpt-image-latest"),
    *("dall-e-2", "dall-e-3"),
)

routes = APIRouter(prefix="/v1", dependencies=[Depends(bearer)], tags=["models"])


class ModelInfo(BaseModel):
    """A model, or another name that clients use for it."""

    id: Annotated[str, Field(description="what `model` may be")]
    object: Annotated[Literal["model"], Field(description="always model")] = "model"
    created: Annotated[int, Field(description="seconds since 1970")] = 1640000000
    owned_by: Annotated[str, Field(description="always kotoe")] = "kotoe"


class ModelList(BaseModel):
    """All names that `model` may have."""

    object: Annotated[Literal["list"], Field(description="always list")] = "list"
    data: Annotated[list[ModelInfo], Field(description="the model's own name first")]


class TextDocument(Document):
    """Words for people, in both languages."""

    ja: Annotated[str, Field(description="Japanese")]
    en: Annotated[str, Field(description="English")]


class StageDocument(Document):
    """One pass of drawing; each next one starts from what the one before has made."""

    name: Annotated[str, Field(description="as a running job's progress has it")]
    label: Annotated[TextDocument, Field(description="its name for people")]
    side: Annotated[int, Field(description="of its pictures, in pixels")]
    steps: Annotated[int, Field(description="denoising steps, unless the request has its own number")]
    steps_field: Annotated[StepsField, Field(description="the field of a request with that number")]


class GuidanceDocument(Document):
    """How closely a text may be followed."""

    default: Annotated[float, Field(description="what a request without guidance_scale gets")]
    least: Annotated[float, Field(description="the smallest that makes sense; 1 is no guidance")]
    most: Annotated[float, Field(description="the largest that makes sense")]


class WarningDocument(Document):
    """What people should know before they draw."""

    words: Annotated[list[str], Field(description="shown where the English has one of these; with none: always")]
    text: Annotated[TextDocument, Field(description="what to say")]


class VocabularyDocument(Document):
    """What the model reads, if it does not read any English."""

    words: Annotated[list[str], Field(description="every word that the model knows")]
    word_pattern: Annotated[
        str,
        Field(
            description="regular expression of a word, in a prompt as NFKC and lower case without characters that "
            "nobody sees (Unicode's format characters and variation selectors)"
        ),
    ]
    function_words: Annotated[
        list[str], Field(description="words that say nothing about what to draw; they are never unknown")
    ]
    experimental: Annotated[list[str], Field(description="phrases of those words that it does not draw well")]
    untrained: Annotated[list[str], Field(description="names whose words it knows, of things that it never saw")]
    things: Annotated[
        dict[str, list[TextDocument]], Field(description="what it can draw, by kind: concept, colour, scene, style")
    ]


class SpritesDocument(Document):
    """A sheet of small square pictures, side by side and row by row."""

    url: Annotated[str, Field(description="where the sheet is, relative to this service")]
    side: Annotated[int, Field(description="of a picture, in pixels")]
    columns: Annotated[int, Field(description="pictures in a row")]
    things: Annotated[list[str], Field(description="English name of what each picture shows, in their order")]


class ModelDocument(ModelInfo, Document):
    """All that a form or a program needs to know of a model; its id is the name that was asked for."""

    device: Annotated[str | None, Field(description="what it computes on; null before it is loaded")]
    model_hash: Annotated[str | None, Field(description="of its weights; null before it is loaded")]
    versions: Annotated[dict[str, str], Field(description="of the libraries that draw")]
    stages: Annotated[list[StageDocument], Field(description="in drawing order; upscale=false leaves the last of two")]
    max_steps: Annotated[int, Field(description="of a stage")]
    samplers: Annotated[list[str], Field(description="what a request's sampler may be; the default first")]
    sides: Annotated[list[int], Field(description="in pixels, that it draws by itself")]
    qualities: Annotated[dict[str, dict[str, int]], Field(description="proposals: steps of each stage")]
    guidance: Annotated[GuidanceDocument | None, Field(description="null: it knows no guidance_scale but 1")]
    negative_prompt: Annotated[bool, Field(description="whether it takes one")]
    inpainting: Annotated[bool, Field(description="whether it draws parts of pictures anew")]
    languages: Annotated[list[str], Field(description="that it reads")]
    license: Annotated[str, Field(description="of its weights")]
    warnings: Annotated[list[WarningDocument], Field(description="what people should know before they draw")]
    examples: Annotated[list[TextDocument], Field(description="prompts that show what it draws well")]
    vocabulary: Annotated[VocabularyDocument | None, Field(description="null: it reads any English")]
    sprites: Annotated[SpritesDocument | None, Field(description="a small picture of each thing that it draws, if any")]


def model_document(info: EngineInfo, model_id: str) -> ModelDocument:
    """What an engine says of itself, as it goes over HTTP and beside the gallery.

    Args:
        model_id: the model's own name or an alias.
    """
    stages = [
        {"name": stage.name, "label": stage.label, "side": stage.side, "steps": stage.steps, "steps_field": field}
        for stage, field in zip(info.stages, STEPS_FIELDS, strict=False)
    ]
    sprites = info.sprites and {
        "url": f"/v1/models/{info.model}/{SPRITES}",
        "side": info.sprites.side,
        "columns": info.sprites.columns,
        "things": info.sprites.things,
    }
    return ModelDocument.model_validate(
        {
            "id": model_id,
            "device": info.device or None,
            "model_hash": info.model_hash or None,
            "versions": info.versions,
            "stages": stages,
            "max_steps": MAX_STEPS,
            "samplers": info.samplers,
            "sides": [stage.side for stage in info.stages],
            "qualities": info.qualities,
            "guidance": info.guidance,
            "negative_prompt": info.has_negative_prompt,
            "inpainting": info.has_inpainting,
            "languages": info.languages,
            "license": info.license,
            "warnings": info.warnings,
            "examples": info.examples,
            "vocabulary": info.vocabulary,
            "sprites": sprites,
        },
        from_attributes=True,
    )


def publish_description(service: Service, stopping: threading.Event) -> None:
    """Write what the model says of itself beside the gallery: the page reads it there while this service sleeps.

    Tried again until it is written, or the service stops.
    """
    while not stopping.is_set():
        try:
            info = service.queue.info()
            files = {SPRITES: info.sprites.sheet.read_bytes()} if info.sprites else {}
            files["description.json"] = model_document(info, info.model).model_dump_json().encode()
            for name, content in files.items():
                service.gallery.write(MODEL_FOLDER, name, content)
            return
        except (ModelLoading, OSError) as error:  # its files are broken: they may be mended before it is loaded again
            logger.warning("the model's description waits for the model", extra={"reason": str(error)})
        except GalleryUnavailable as error:
            logger.warning("the model's description waits for the gallery", extra={"reason": str(error)})
        stopping.wait(PUBLISH_RETRY_S)


def model_names(info: EngineInfo) -> tuple[str, ...]:
    """The names that `model` may have, its own first."""
    return (info.model, *ALIASES)


ModelId = Annotated[str, Path(max_length=MAX_NAME_CHARACTERS, description="a name of GET /v1/models")]


def named_model(model_id: ModelId, service: CurrentService) -> EngineInfo:
    """The model of that name.

    Raises:
        ModelNotFound: it is not the one here.
    """
    info = service.queue.info()
    if model_id not in model_names(info):
        raise ModelNotFound(f"there is no model {model_id!r} here")
    return info


NamedModel = Annotated[EngineInfo, Depends(named_model)]


@routes.get("/models", response_description="The models.", responses=guarded_errors(ModelLoading))
def list_models(service: CurrentService) -> ModelList:
    """The model that draws, and the names that clients use by themselves."""
    return ModelList(data=[ModelInfo(id=name) for name in model_names(service.queue.info())])


@routes.get(
    "/models/{model_id}",
    response_description="The model.",
    responses=guarded_errors(BadParameter, ModelNotFound, ModelLoading),
)
def read_model(model_id: ModelId, info: NamedModel) -> ModelDocument:
    """All that a form needs to know of a model, while it loads too."""
    return model_document(info, model_id)


@routes.get(
    f"/models/{{model_id}}/{SPRITES}",
    response_class=FileResponse,
    responses={
        200: {"content": {"image/webp": {}}, "description": "The sheet."},
        **guarded_errors(BadParameter, ModelNotFound, ModelLoading),
    },
)
def read_sprites(info: NamedModel) -> FileResponse:
    """Small pictures of what the model draws; its description says which is where."""
    if info.sprites is None:
        raise ModelNotFound(f"the model {info.model} has no sheet of small pictures")
    return FileResponse(info.sprites.sheet, media_type="image/webp")

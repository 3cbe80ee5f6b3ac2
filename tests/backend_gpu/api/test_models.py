"""What a model says of itself, to pages and programs that know none by name."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from backend_gpu.api import models
from backend_gpu.engine import EngineInfo, ModelWarning, Sprites, Stage, Text, Vocabulary
from backend_gpu.engine.models import FAMILIES, Family
from backend_gpu.settings import Settings
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of, running_service
from tests.backend_gpu.fake_engine import FakeEngine
from tests.backend_gpu.waiting import wait_until

FULL = replace(
    FakeEngine.info,
    qualities={"fast": {"base": 5, "upsample": 2}},
    warnings=(ModelWarning(words=("person",), text=Text("人は描けません", "it draws no people")),),
    examples=(Text("赤いりんご", "a red apple"),),
    vocabulary=Vocabulary(
        words=("red", "apple", "dog"),
        word_pattern=r"\w+",
        function_words=("a",),
        experimental=("red dog",),
        untrained=("dog",),
        things={"concept": (Text("りんご", "apple"),)},
    ),
    versions={"torch": "2.13.0"},
)
ONE_STAGE = replace(
    FakeEngine.info,
    stages=(Stage(name="only", label=Text("絵", "picture"), side=96, steps=6),),
    samplers=("euler",),
    guidance=None,
    has_negative_prompt=False,
)


def engine_with(info: EngineInfo) -> FakeEngine:
    engine = FakeEngine()
    engine.info = info
    return engine


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service whose model has something to say in every field, and a sheet of small pictures."""
    sheet = tmp_path_factory.mktemp("model") / "sprites.webp"
    Image.new("RGB", (4, 2)).save(sheet)
    engine = engine_with(replace(FULL, sprites=Sprites(sheet=sheet, side=2, columns=2, things=("apple", "dog"))))
    with running_service(tmp_path_factory.mktemp("full"), engine=engine) as running:
        yield running


def test_a_model_describes_itself(full: RunningService) -> None:
    assert full.http.get("/v1/models/kotoe-mini").json() == {
        "id": "kotoe-mini",
        "object": "model",
        "created": 1640000000,
        "owned_by": "kotoe",
        "device": "cpu",
        "model_hash": FULL.model_hash,
        "versions": {"torch": "2.13.0"},
        "stages": [
            {
                "name": "base",
                "label": {"ja": "下描き", "en": "sketch"},
                "side": 64,
                "steps": 10,
                "steps_field": "steps",
            },
            {
                "name": "upsample",
                "label": {"ja": "仕上げ", "en": "finish"},
                "side": 256,
                "steps": 4,
                "steps_field": "upsample_steps",
            },
        ],
        "max_steps": 250,
        "samplers": ["dpmpp_2m", "ddim", "ddpm"],
        "sides": [64, 256],
        "qualities": {"fast": {"base": 5, "upsample": 2}},
        "guidance": {"default": 2.5, "least": 1.0, "most": 20.0},
        "negative_prompt": True,
        "inpainting": False,
        "languages": ["en"],
        "license": "MIT",
        "warnings": [{"words": ["person"], "text": {"ja": "人は描けません", "en": "it draws no people"}}],
        "examples": [{"ja": "赤いりんご", "en": "a red apple"}],
        "vocabulary": {
            "words": ["red", "apple", "dog"],
            "word_pattern": r"\w+",
            "function_words": ["a"],
            "experimental": ["red dog"],
            "untrained": ["dog"],
            "things": {"concept": [{"ja": "りんご", "en": "apple"}]},
        },
        "sprites": {
            "url": "/v1/models/kotoe-mini/sprites.webp",
            "side": 2,
            "columns": 2,
            "things": ["apple", "dog"],
        },
    }


def test_an_alias_has_the_same_description_under_its_own_name(full: RunningService) -> None:
    own, alias = (full.http.get(f"/v1/models/{name}").json() for name in ("kotoe-mini", "dall-e-3"))
    assert alias == own | {"id": "dall-e-3"}


def test_the_sheet_of_small_pictures_is_where_the_description_says(full: RunningService) -> None:
    answer = full.http.get(full.http.get("/v1/models/kotoe-mini").json()["sprites"]["url"])
    assert answer.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(answer.content)) as sheet:
        assert (sheet.format, sheet.size) == ("WEBP", (4, 2))


def test_the_sheet_lies_beside_the_description_in_the_gallery(full: RunningService) -> None:
    folder = full.service.settings.data_dir / "gallery" / ".model"
    wait_until((folder / "description.json").exists)
    answer = full.http.get("/v1/models/kotoe-mini/sprites.webp")
    assert (folder / "sprites.webp").read_bytes() == answer.content


def test_a_model_without_a_sheet_has_none(shared: RunningService) -> None:
    assert shared.http.get("/v1/models/kotoe-mini").json()["sprites"] is None
    for name in ("kotoe-mini", "nothing"):
        error_of(shared.http.get(f"/v1/models/{name}/sprites.webp"), 404, "model_not_found")


@pytest.mark.parametrize(("name", "model_id"), [("mini", "kotoe-mini"), ("glide", "glide")])
def test_a_model_is_described_while_it_loads(serve: Serve, name: str, model_id: str) -> None:
    may_load = threading.Event()

    def slow_engine() -> FakeEngine:
        may_load.wait()
        return FakeEngine()

    family = Family(describe=FAMILIES[name].describe, open=lambda _: slow_engine())
    with serve(model=name, open_engine=slow_engine, family=family) as running:
        document = running.http.get(f"/v1/models/{model_id}").json()
        may_load.set()
    assert (document["device"], document["model_hash"]) == (None, None)
    assert document["sides"] == [64, 256]


def test_a_model_that_can_not_be_described_is_described_once_it_is_loaded(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "PUBLISH_RETRY_S", 0.01)
    may_load = threading.Event()

    def broken(_: Settings) -> EngineInfo:
        raise ValueError("a file beside the weights is no JSON")

    def slow_engine() -> FakeEngine:
        may_load.wait()
        return FakeEngine()

    with serve(open_engine=slow_engine, family=Family(describe=broken, open=lambda _: slow_engine())) as running:
        for path in ("/readyz", "/v1/models", "/v1/models/kotoe-mini"):
            error_of(running.http.get(path), 503, "model_loading")
        may_load.set()
        wait_until(lambda: running.http.get("/v1/models").status_code == 200)
        file = running.service.settings.data_dir / "gallery" / ".model" / "description.json"
        wait_until(file.exists)
        assert json.loads(file.read_text()) == running.http.get("/v1/models/kotoe-mini").json()


def test_the_status_leaves_the_description_to_the_model(shared: RunningService) -> None:
    assert not {"vocabulary", "word_pattern", "function_words"} & set(shared.http.get("/v1/status").json())


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
def test_a_sampler_that_the_model_does_not_know_is_refused_with_those_that_it_does(serve: Serve, path: str) -> None:
    with serve(engine=engine_with(ONE_STAGE)) as running:
        answer = running.http.post(path, json={"prompt": "a red apple", "sampler": "ddim"})
    error = error_of(answer, 400, "invalid_value")
    assert error["param"] == "sampler"
    assert "euler" in error["message"]


@pytest.mark.parametrize(("size", "side"), [({}, 96), ({"size": "auto"}, 96), ({"size": "64x64"}, 64)])
def test_openai_sizes_follow_a_model_of_one_stage(serve: Serve, size: dict[str, Any], side: int) -> None:
    body = {"prompt": "a red apple", "model": "gpt-image-1", "quality": "high"} | size
    with serve(engine=engine_with(ONE_STAGE)) as running:
        answer = running.http.post("/v1/images/generations", json=body).json()
        (job,) = running.store.of_owner("openai", 10)
    assert answer["size"] == f"{side}x{side}"
    with Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"]))) as png:
        assert png.size == (side, side)
    assert (job.request.steps, job.request.upscale) == (12, True)


def test_openai_urls_of_a_model_of_one_stage_can_be_fetched(serve: Serve) -> None:
    with serve(engine=engine_with(ONE_STAGE)) as running:
        (image,) = running.http.post("/v1/images/generations", json={"prompt": "a red apple"}).json()["data"]
        assert running.http.get(image["url"]).status_code == 200

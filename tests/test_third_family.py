"""A family of models that the project does not know: one file, one entry, and everything works with it."""

import argparse
import base64
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import openai
import pytest
from PIL import Image

from backend_gpu.engine.models import FAMILIES
from backend_gpu.image_command import make_images
from frontend_streamlit import clients
from frontend_streamlit.page.settings_form import STEPS
from frontend_streamlit.settings import Settings as PageSettings
from tests.backend_gpu.api.running_service import RunningService, error_of, running_service
from tests.backend_gpu.waiting import wait_until
from tests.frontend_streamlit.page import ME, Page
from tests.third_family import RINGS, SIDE


@pytest.fixture(autouse=True)
def _one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "rings", RINGS)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path, family=FAMILIES["rings"], model="rings") as running:
        wait_until(lambda: running.worker.is_ready)
        yield running


def opened(png: bytes) -> Image.Image:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return image


def test_the_native_face_draws_with_the_familys_own_choices(service: RunningService) -> None:
    job = service.wait_for(service.submit(prompt="rings in water", seed=7, n=2)["id"])
    assert job["status"] == "succeeded"
    request = job["request"]
    assert (request["model"], request["sampler"], request["steps"]) == ("rings", "spiral", 6)
    assert (request["upsample_steps"], request["guidance_scale"]) == (None, 1.0)
    pictures = [opened(service.http.get(image["url"]).content) for image in job["images"]]
    assert [picture.size for picture in pictures] == [(SIDE, SIDE)] * 2
    assert json.loads(pictures[0].info["kotoe"])["upsample_steps"] is None
    assert pictures[0].info["parameters"].splitlines()[1].startswith("Steps: 6, Sampler: spiral, CFG scale: 1.0")
    again = service.wait_for(service.submit(**request)["id"])
    assert opened(service.http.get(again["images"][0]["url"]).content).tobytes() == pictures[0].tobytes()


@pytest.mark.parametrize(
    "choice",
    [{"guidance_scale": 3}, {"negative_prompt": "squares"}, {"sampler": "ddim"}, {"upsample_steps": 4}],
    ids=str,
)
def test_the_native_face_refuses_what_the_family_does_not_take(
    service: RunningService, choice: dict[str, object]
) -> None:
    answer = service.http.post("/v1/jobs", json={"prompt": "rings"} | choice)
    assert error_of(answer, 400, "invalid_value")["param"] == next(iter(choice))


def test_it_says_what_it_is_over_http_and_beside_the_gallery(service: RunningService) -> None:
    document = service.http.get("/v1/models/rings").json()
    assert document["stages"] == [
        {
            "name": "paint",
            "label": {"ja": "輪を描く", "en": "painting rings"},
            "side": 96,
            "steps": 6,
            "steps_field": "steps",
        }
    ]
    assert (document["sides"], document["guidance"], document["vocabulary"]) == ([96], None, None)
    file = service.service.settings.data_dir / "gallery" / ".model" / "description.json"
    wait_until(file.exists)
    assert json.loads(file.read_text(encoding="utf-8"))["id"] == "rings"


def test_openais_client_gets_its_pictures_as_large_as_they_are(service: RunningService) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        answer = client.images.generate(prompt="rings", model="rings", response_format="b64_json")
    assert answer.size == f"{SIDE}x{SIDE}"
    assert answer.data
    assert opened(base64.b64decode(answer.data[0].b64_json or "")).size == (SIDE, SIDE)


def test_the_command_line_draws_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    translation = {"source": "水の輪", "english": "rings in water", "translator": "x", "unknown_words": []}
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(translation).encode())))
    make_images(argparse.Namespace(n="1", seed="7", model="rings", out=tmp_path / "a.png"))
    assert opened((tmp_path / "a.png").read_bytes()).size == (SIDE, SIDE)
    assert "load " in (out := capsys.readouterr().out)
    assert "paint " in out


def test_the_page_shows_its_form_and_draws_with_it(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PageSettings(
        backend_url=service.url, gallery=service.service.settings.gallery_root, translator="offline"
    )
    page = Page(clients.make_clients(settings))
    monkeypatch.setattr(clients, "make_clients", lambda _: page.clients)
    page.forget_status().open()
    (slider,) = page.app.slider
    assert (slider.label, slider.value) == (STEPS.ja.format("輪を描く"), 6)
    assert page.app.selectbox(key="sampler").options == ["spiral"]
    assert not page.app.text_input
    assert [button.label for button in page.app.button if (button.key or "").startswith("example_")] == [
        "rings in water"
    ]
    page.draw("赤いりんご")
    (job,) = service.http.get("/v1/jobs", params={"owner": ME}).json()["data"]
    assert service.wait_for(job["id"])["status"] == "succeeded"
    assert page.run().has("save_")

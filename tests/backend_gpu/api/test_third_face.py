"""A face of its own, as somebody would add one: it stands on what the two faces share and on neither of them."""

import base64

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from backend_gpu.api.dependencies import CurrentService
from backend_gpu.api.drawing import draw, picture
from backend_gpu.api.encoding import Encoding
from backend_gpu.jobs.request import JobSubmission
from backend_gpu.jobs.retries import Claim
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of

routes = APIRouter(prefix="/third")


class Wish(BaseModel):
    prompt: str


@routes.post("/draw")
async def draw_pictures(wish: Wish, service: CurrentService) -> list[str]:
    job = await draw(service, JobSubmission(prompt=wish.prompt, n=2, seed=7, owner="third"), Claim(owner="third"))
    pngs = [await run_in_threadpool(picture, service, job, index, Encoding(side=64)) for index in range(2)]
    return [base64.b64encode(png).decode() for png in pngs]


def with_third_face(running: RunningService) -> httpx.Client:
    app = running.server.config.app
    assert isinstance(app, FastAPI)
    app.include_router(routes)
    return running.http


def test_a_third_face_draws_pictures(serve: Serve) -> None:
    with serve() as running:
        answer = with_third_face(running).post("/third/draw", json={"prompt": "a red apple"})
        (job,) = running.store.of_owner("third", 10)
        urls = [f"/v1/jobs/{job.id}/images/{index}.png?size=64" for index in range(2)]
        stored = [running.http.get(url).content for url in urls]
    assert [base64.b64decode(image) for image in answer.json()] == stored
    assert stored[0] != stored[1]


def test_the_errors_of_a_third_face_have_the_form_of_all_errors(serve: Serve) -> None:
    with serve() as running:
        http = with_third_face(running)
        assert error_of(http.post("/third/draw", json={"prompt": "りんご"}), 400, "invalid_prompt")["param"] == "prompt"
        running.engine.failure = RuntimeError("broken")
        error_of(http.post("/third/draw", json={"prompt": "a red apple"}), 500, "engine_failed")

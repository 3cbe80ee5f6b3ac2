"""The OpenAI Images face, driven by the official client on a real socket."""

import asyncio
import base64
import functools
import io
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types import Image as OpenAIImage
from openai.types import ImageGenStreamEvent
from PIL import Image, PngImagePlugin

from backend_gpu.api import events as api_events
from backend_gpu.api.models import ALIASES
from backend_gpu.engine import Drawing
from backend_gpu.engine.models import FAMILIES, Family
from backend_gpu.errors import OutOfMemory
from backend_gpu.jobs import progress
from backend_gpu.jobs.job import Job
from tests.backend_gpu.api.running_service import RunningService, Serve
from tests.backend_gpu.fake_engine import FakeEngine, picture
from tests.backend_gpu.waiting import wait_until

TOKEN = "s3cret-token"
PROMPT = "a red apple"
MODEL = "gpt-image-1"  # whose pictures come as base64


def client_of(running: RunningService, url: str = "", api_key: str = "none", max_retries: int = 0) -> OpenAI:
    return OpenAI(base_url=f"{url or running.url}/v1", api_key=api_key, max_retries=max_retries)


@pytest.fixture(scope="module")
def client(shared: RunningService) -> Iterator[OpenAI]:
    with client_of(shared) as client:
        yield client


def jobs_of(running: RunningService) -> list[Job]:
    return running.store.of_owner("openai", 100)


def opened(image: OpenAIImage | str) -> Image.Image:
    content = image if isinstance(image, str) else image.b64_json
    assert content
    return Image.open(io.BytesIO(base64.b64decode(content)))


def pixels(prompt: str, seed: int, side: int = 256) -> bytes:
    return picture(Drawing(prompt=prompt, seed=seed, guidance_scale=2.5), side).tobytes()


def test_a_prompt_gives_one_picture(client: OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, model=MODEL)
    assert answer.data
    (image,) = answer.data
    assert image.url is None
    assert image.revised_prompt == PROMPT
    with opened(image) as png:
        assert (png.format, png.size) == ("PNG", (256, 256))
    assert (answer.output_format, answer.size, answer.quality, answer.background) == (
        *("png", "256x256", "auto", "opaque"),
    )
    assert answer.usage
    assert answer.usage.total_tokens == 0
    assert answer.created > 1_700_000_000


def test_the_seed_comes_back_and_gives_the_picture_again(client: OpenAI) -> None:
    first = client.images.generate(prompt=PROMPT, model=MODEL)
    assert first.data
    seed = first.data[0].seed  # type: ignore[attr-defined]  # a field of ours
    again = client.images.generate(prompt=PROMPT, model=MODEL, extra_body={"seed": seed})
    assert again.data
    assert again.data[0].b64_json == first.data[0].b64_json
    with opened(again.data[0]) as png:
        assert png.tobytes() == pixels(PROMPT, seed)


def test_several_pictures_have_seeds_that_follow_each_other(client: OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, model=MODEL, n=3, extra_body={"seed": 5})
    assert answer.data
    assert [image.seed for image in answer.data] == [5, 6, 7]  # type: ignore[attr-defined]  # a field of ours
    for seed, image in enumerate(answer.data, 5):
        with opened(image) as png:
            assert png.tobytes() == pixels(PROMPT, seed)


@pytest.mark.parametrize(("size", "side"), [("auto", 256), ("256x256", 256), ("512x512", 512), ("1024x1024", 1024)])
def test_every_size_is_resampled_and_told(client: OpenAI, size: Any, side: int) -> None:
    answer = client.images.generate(prompt=PROMPT, model=MODEL, size=size)
    assert answer.data
    assert answer.size == f"{side}x{side}"
    with opened(answer.data[0]) as png:
        assert png.size == (side, side)


def test_the_smallest_size_is_drawn_without_the_upsampler(shared: RunningService, client: OpenAI) -> None:
    size: Any = "64x64"
    client.images.generate(prompt=PROMPT, model=MODEL, size=size)
    assert jobs_of(shared)[0].request.upscale is False


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_every_format_comes_as_asked_for(client: OpenAI, output_format: Literal["png", "webp", "jpeg"]) -> None:
    answer = client.images.generate(prompt=PROMPT, model=MODEL, output_format=output_format)
    assert answer.data
    assert answer.output_format == output_format
    with opened(answer.data[0]) as image:
        assert image.format == output_format.upper()


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_more_compression_is_fewer_bytes(client: OpenAI, output_format: Literal["webp", "jpeg"]) -> None:
    def size_at(quality: int) -> int:
        answer = client.images.generate(
            prompt=PROMPT,
            model=MODEL,
            size="1024x1024",
            output_format=output_format,
            output_compression=quality,
            extra_body={"seed": 1},
        )
        assert answer.data
        return len(answer.data[0].b64_json or "")

    assert size_at(5) < size_at(100)


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("size", ["256x256", "512x512"])
def test_a_url_gives_the_same_picture_without_the_token(
    serve: Serve, output_format: Literal["png", "webp", "jpeg"], size: Literal["256x256", "512x512"]
) -> None:
    with serve(token=TOKEN) as running, client_of(running, api_key=TOKEN) as client:
        made: list[Any] = [
            client.images.generate(
                prompt=PROMPT,
                model=MODEL,
                n=2,
                size=size,
                output_format=output_format,
                output_compression=40,
                response_format=response_format,
                extra_body={"seed": 3},
            ).data
            for response_format in ("url", "b64_json")
        ]
        assert all(image.b64_json is None for image in made[0])
        fetched = [httpx.get(image.url) for image in made[0]]
    assert [answer.headers["content-type"] for answer in fetched] == [f"image/{output_format}"] * 2
    assert [answer.content for answer in fetched] == [base64.b64decode(image.b64_json) for image in made[1]]


def test_urls_start_with_the_address_that_the_operator_names(serve: Serve) -> None:
    with serve(public_url="https://pictures.example/kotoe/") as running, client_of(running) as client:
        answer = client.images.generate(prompt=PROMPT, model=MODEL, response_format="url")
    assert answer.data
    assert (answer.data[0].url or "").startswith("https://pictures.example/kotoe/v1/jobs/")


def test_extra_fields_reach_the_job_and_the_picture(shared: RunningService, client: OpenAI) -> None:
    extra = {
        "seed": 11,
        "steps": 3,
        "upsample_steps": 2,
        "guidance_scale": 7.5,
        "negative_prompt": "a dog",
        "sampler": "ddim",
        "source_prompt": "赤いりんご",
    }
    answer = client.images.generate(prompt=PROMPT, model=MODEL, extra_body=extra)
    request = jobs_of(shared)[0].request
    assert {name: getattr(request, name) for name in extra} == extra
    assert answer.data
    content = base64.b64decode(answer.data[0].b64_json or "")
    with PngImagePlugin.PngImageFile(io.BytesIO(content)) as png:
        assert "Steps: 3, Sampler: DDIM, CFG scale: 7.5, Seed: 11" in str(png.text["parameters"])
        assert "赤いりんご" in str(png.text["kotoe"])


def test_what_means_nothing_here_is_ignored(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt=PROMPT,
        style="vivid",
        moderation="low",
        background="auto",
        extra_body={"translate": True, "source_language": "ja"},
    )
    assert answer.data


@pytest.mark.parametrize(("quality", "steps"), [("low", 5), ("medium", 10), ("auto", 10), ("high", 20), ("hd", 20)])
def test_quality_scales_the_number_of_steps(shared: RunningService, client: OpenAI, quality: Any, steps: int) -> None:
    client.images.generate(prompt=PROMPT, model=MODEL, quality=quality)
    assert jobs_of(shared)[0].request.steps == steps


def test_users_have_queues_of_their_own_under_a_hash(shared: RunningService, client: OpenAI) -> None:
    client.images.generate(prompt=PROMPT, model=MODEL, user="taro@example.com", extra_body={"seed": 12345})
    (owner,) = {
        row["owner"]
        for row in shared.store.database.connection.execute("SELECT owner, request FROM jobs").fetchall()
        if '"seed": 12345' in row["request"]
    }
    assert "taro" not in owner
    assert len(owner) == 32


def test_models_are_listed_and_found_by_any_name(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["kotoe-mini", *ALIASES]
    for name in names:
        model = client.models.retrieve(name)
        assert (model.id, model.object, model.owned_by) == (name, "model", "kotoe")


@pytest.mark.parametrize("model", ["kotoe-mini", *ALIASES])
def test_every_name_of_the_model_draws(client: OpenAI, model: str) -> None:
    assert client.images.generate(prompt=PROMPT, model=model).data


@pytest.mark.parametrize(("name", "model_id"), [("mini", "kotoe-mini"), ("glide", "glide")])
def test_a_model_has_one_name_before_and_after_it_is_loaded(serve: Serve, name: str, model_id: str) -> None:
    may_load = threading.Event()

    engine = FakeEngine()
    engine.info = replace(FakeEngine.info, model=model_id)

    def slow_engine() -> FakeEngine:
        may_load.wait()
        return engine

    family = Family(describe=FAMILIES[name].describe, open=lambda _: slow_engine())
    with serve(model=name, open_engine=slow_engine, family=family) as running, client_of(running) as client:
        for is_loaded in (False, True):
            assert next(iter(client.models.list())).id == model_id
            assert client.models.retrieve(model_id).id == model_id
            if not is_loaded:
                may_load.set()
                wait_until(lambda: running.worker.is_ready)
        assert client.images.generate(prompt=PROMPT, model=model_id).data


def streamed(client: OpenAI, **fields: Any) -> list[ImageGenStreamEvent]:
    return list(client.images.generate(prompt=PROMPT, model=MODEL, stream=True, **fields))


def test_a_stream_without_partial_images_is_one_completed_event(client: OpenAI) -> None:
    (event,) = streamed(client)
    assert event.type == "image_generation.completed"
    assert (event.background, event.output_format, event.size, event.quality) == ("opaque", "png", "256x256", "auto")
    assert event.usage.total_tokens == 0
    assert event.created_at > 1_700_000_000
    with opened(event.b64_json) as png:
        assert png.size == (256, 256)


def have_come(events: list[Any], count: int) -> bool:
    return len(events) >= count


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_a_stream_shows_as_many_partial_images_as_wanted(
    serve: Serve, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PUBLISH_INTERVAL_S", 0.0)
    with serve() as running, client_of(running) as client:
        running.engine.hold()
        events: list[Any] = []
        stream = client.images.generate(
            prompt=PROMPT, model=MODEL, stream=True, partial_images=wanted, output_format="webp"
        )
        reader = threading.Thread(target=lambda: events.extend(stream))
        reader.start()
        running.engine.wait_for_step()
        for step in range(1, 10 + 4):
            running.engine.allow(1)
            wait_until(functools.partial(have_come, events, min(wanted, step * (wanted + 1) // 14)))
        running.engine.release()
        reader.join()
    partials: list[Any] = events[:-1]
    assert [event.type for event in partials] == ["image_generation.partial_image"] * wanted
    assert [event.partial_image_index for event in partials] == list(range(wanted))
    assert events[-1].type == "image_generation.completed"
    assert len({event.b64_json for event in partials}) == wanted
    for event in partials:
        assert (event.output_format, event.background, event.quality) == ("webp", "opaque", "auto")
        with opened(event.b64_json) as image:
            assert image.format == "WEBP"


def test_a_stream_of_several_pictures_tells_which_is_which(client: OpenAI) -> None:
    events: list[Any] = streamed(client, n=3, size="512x512", extra_body={"seed": 20})
    assert [(event.type, event.index, event.seed) for event in events] == [
        ("image_generation.completed", index, 20 + index) for index in range(3)
    ]
    plain = client.images.generate(prompt=PROMPT, model=MODEL, n=3, size="512x512", extra_body={"seed": 20})
    assert [event.b64_json for event in events] == [image.b64_json for image in plain.data or []]


def test_news_of_the_queue_and_heartbeats_do_not_disturb_the_client(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_events, "HEARTBEAT_S", 0.02)
    with serve() as running, client_of(running) as client:
        running.engine.hold()
        blocker = running.submit(steps=1)
        running.wait_for(blocker["id"], "running")
        threading.Timer(0.3, running.engine.release).start()
        events = streamed(client, partial_images=1)
        body = {"prompt": PROMPT, "stream": True}
        text = running.http.post("/v1/images/generations", json=body).text
    assert events[-1].type == "image_generation.completed"
    assert not [line for line in text.splitlines() if line.startswith("id:")]


@pytest.mark.parametrize(
    ("failure", "code"), [(RuntimeError("broken"), "engine_failed"), (OutOfMemory("too big"), "out_of_memory")]
)
def test_a_failure_inside_a_stream_raises_with_its_code(serve: Serve, failure: Exception, code: str) -> None:
    with serve() as running, client_of(running, max_retries=2) as client:
        running.engine.failure = failure
        with pytest.raises(openai.APIError) as raised:
            streamed(client, partial_images=2)
        assert len(jobs_of(running)) == 1
    assert raised.value.code == code
    assert raised.value.type == "server_error"
    assert raised.value.message


def test_a_job_cancelled_by_somebody_else_raises_in_the_stream(serve: Serve) -> None:
    def cancel(running: RunningService) -> None:
        wait_until(lambda: bool(jobs_of(running)))
        running.http.post(f"/v1/jobs/{jobs_of(running)[0].id}/cancel")

    with serve() as running, client_of(running) as client:
        running.engine.hold()
        thread = threading.Thread(target=cancel, args=(running,))
        thread.start()
        with pytest.raises(openai.APIError) as raised:
            streamed(client)
        thread.join()
    assert raised.value.code == "cancelled"


def test_a_refusal_of_a_stream_raises_like_any_other(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        streamed(client, n=9)
    assert (raised.value.param, raised.value.code) == ("n", "invalid_value")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": "赤いりんご"}, "prompt", "invalid_prompt"),
        ({"prompt": "word " * 30}, "prompt", "invalid_prompt"),
        ({"prompt": ""}, "prompt", "invalid_value"),
        ({"n": 9}, "n", "invalid_value"),
        ({"size": "1792x1024"}, "size", "invalid_value"),
        ({"model": "midjourney"}, "model", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"output_compression": 101}, "output_compression", "invalid_value"),
        ({"stream": True, "partial_images": 4}, "partial_images", "invalid_value"),
        ({"quality": "best"}, "quality", "invalid_value"),
        ({"extra_body": {"seed": -2}}, "seed", "invalid_value"),
        ({"extra_body": {"sampler": "euler"}}, "sampler", "invalid_value"),
    ],
)
def test_a_bad_request_names_the_field(client: OpenAI, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(**{"prompt": PROMPT} | fields)
    assert (raised.value.param, raised.value.code, raised.value.type) == (param, code, "invalid_request_error")
    assert raised.value.request_id
    assert param in raised.value.message


def test_a_wrong_key_is_an_authentication_error(serve: Serve) -> None:
    with serve(token=TOKEN) as running, client_of(running, api_key="wrong", max_retries=2) as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            client.images.generate(prompt=PROMPT, model=MODEL)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    assert raised.value.code == "invalid_api_key"


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("midjourney")
    assert raised.value.code == "model_not_found"


def test_a_used_up_quota_is_a_rate_limit_error(serve: Serve) -> None:
    with serve(quota_pictures=1) as running, client_of(running) as client:
        client.images.generate(prompt=PROMPT, model=MODEL)
        with pytest.raises(openai.RateLimitError) as raised:
            client.images.generate(prompt=PROMPT, model=MODEL)
    assert raised.value.code == "rate_limit_exceeded"
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 120


def test_a_job_that_fails_is_an_internal_server_error_and_not_tried_again(serve: Serve) -> None:
    with serve() as running, client_of(running, max_retries=2) as client:
        running.engine.failure = RuntimeError("broken")
        with pytest.raises(openai.InternalServerError) as raised:
            client.images.generate(prompt=PROMPT, model=MODEL)
        assert len(jobs_of(running)) == 1
    assert (raised.value.status_code, raised.value.code) == (500, "engine_failed")


def test_a_model_that_loads_is_an_internal_server_error_that_clients_wait_for(serve: Serve) -> None:
    may_load = threading.Event()

    def slow_engine() -> FakeEngine:
        may_load.wait()
        return FakeEngine()

    with serve(open_engine=slow_engine) as running:
        with client_of(running) as client, pytest.raises(openai.InternalServerError) as raised:
            client.images.generate(prompt=PROMPT, model=MODEL)
        may_load.set()
    assert (raised.value.status_code, raised.value.code) == (503, "model_loading")
    assert int(raised.value.response.headers["retry-after"]) <= 120


@contextmanager
def flaky_gateway(running: RunningService, answer: bytes) -> Iterator[str]:
    """A gateway that hands on the first request, then gives this answer instead of the service's; later it behaves."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = running.http.base_url.host, running.http.base_url.port or 80

    def pipe(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        first, _ = listener.accept()
        behind = socket.create_connection((host, port))
        forth = threading.Thread(target=pipe, args=(first, behind))
        forth.start()
        wait_until(lambda: jobs_of(running))
        first.sendall(answer)
        first.shutdown(socket.SHUT_RDWR)  # which ends the pipe, too
        forth.join()
        first.close()
        behind.close()
        second, _ = listener.accept()
        with second, socket.create_connection((host, port)) as good:
            back = threading.Thread(target=pipe, args=(good, second))
            back.start()
            pipe(second, good)
            back.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join()
        listener.close()


UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("answer", [b"", UNAVAILABLE], ids=["dropped", "503"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_clients_own_retry_finds_the_job_of_its_first_try(serve: Serve, answer: bytes, *, stream: bool) -> None:
    with serve() as running, flaky_gateway(running, answer) as url:
        with client_of(running, url, max_retries=2) as client:
            if stream:
                (event,) = streamed(client)
                content = event.b64_json
            else:
                made = client.images.generate(prompt=PROMPT, model=MODEL)
                assert made.data
                content = made.data[0].b64_json or ""
        (job,) = jobs_of(running)
    with opened(content) as png:
        assert png.tobytes() == pixels(PROMPT, job.request.seed)


def post(running: RunningService, retry_count: int, **fields: Any) -> httpx.Response:
    return running.http.post(
        "/v1/images/generations",
        json={"prompt": PROMPT, "model": MODEL} | fields,
        headers={"x-stainless-retry-count": str(retry_count)},
    )


def test_the_same_body_anew_is_a_new_job(serve: Serve) -> None:
    with serve() as running:
        answers = [post(running, 0) for _ in range(2)]
        assert len(jobs_of(running)) == 2
    assert len({answer.json()["data"][0]["b64_json"] for answer in answers}) == 2


def test_a_retry_with_another_body_or_another_user_is_a_new_job(serve: Serve) -> None:
    with serve() as running:
        post(running, 0)
        post(running, 1, n=2)
        post(running, 1, user="taro")
        assert len(jobs_of(running)) == 2
        assert running.store.count("succeeded") == 3


def test_a_retry_of_a_try_that_was_refused_is_a_new_job(serve: Serve) -> None:
    with serve(max_jobs_per_owner=1) as running, ThreadPoolExecutor() as threads:
        running.engine.hold()
        first = threads.submit(post, running, 0)
        running.engine.wait_for_step()
        assert post(running, 0).status_code == 429
        running.engine.release()
        drawn = {first.result().json()["data"][0]["b64_json"]}
        drawn.add(post(running, 1).json()["data"][0]["b64_json"])
        assert len(drawn) == len(jobs_of(running)) == 2
        assert post(running, 1).json()["data"][0]["b64_json"] in drawn  # this one's first try made a job
        assert len(jobs_of(running)) == 2


@pytest.mark.parametrize("code", ["engine_failed", "cancelled"])
def test_a_client_that_comes_again_after_a_failure_is_told_that_and_nothing_is_drawn(serve: Serve, code: str) -> None:
    with serve() as running, ThreadPoolExecutor() as threads:
        running.engine.hold()
        first = threads.submit(post, running, 0)
        running.engine.wait_for_step()
        running.engine.failure = RuntimeError("broken") if code == "engine_failed" else None
        if code == "cancelled":
            running.http.post(f"/v1/jobs/{jobs_of(running)[0].id}/cancel")
        running.engine.release()
        answers = [first.result(), post(running, 1), post(running, 2)]
        assert len(jobs_of(running)) == 1
        assert post(running, 0).status_code == 200  # somebody asks anew
    assert {answer.json()["error"]["code"] for answer in answers} == {code}
    assert {answer.status_code for answer in answers} == {400 if code == "cancelled" else 500}
    assert {answer.headers["x-should-retry"] for answer in answers} == {"false"}


def test_a_failure_of_long_ago_is_not_told_again_but_drawn_anew(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as running:
        running.engine.failure = RuntimeError("broken")
        assert post(running, 0).status_code == 500
        monkeypatch.setattr("backend_gpu.api.openai.retries.FAILURE_RETRY_S", -1.0)
        assert post(running, 1).status_code == 200
        assert [job.status for job in jobs_of(running)] == ["succeeded", "failed"]


@pytest.mark.parametrize("when", ["queued", "running"])
def test_a_cancelled_job_is_drawn_once_whatever_a_client_knows_of_retries(serve: Serve, when: str) -> None:
    """A client that does not know `x-should-retry` goes by the status: it never tries a 400 again."""
    with serve() as running, client_of(running, max_retries=openai.DEFAULT_MAX_RETRIES) as client:
        running.engine.hold()
        if when == "queued":
            running.submit(steps=1)
            running.engine.wait_for_step()

        def cancel() -> None:
            wait_until(lambda: [job.status for job in jobs_of(running)] == [when])
            running.http.post(f"/v1/jobs/{jobs_of(running)[0].id}/cancel")

        with ThreadPoolExecutor() as threads:
            cancelling = threads.submit(cancel)
            with pytest.raises(openai.BadRequestError) as raised:
                client.images.generate(prompt=PROMPT)
            cancelling.result()
        assert len(jobs_of(running)) == 1
    assert (raised.value.code, raised.value.type) == ("cancelled", "invalid_request_error")


def keyed(running: RunningService, key: str, retry_count: int = 0, **fields: Any) -> httpx.Response:
    return running.http.post(
        "/v1/images/generations",
        json={"prompt": PROMPT, "model": MODEL} | fields,
        headers={"Idempotency-Key": key, "x-stainless-retry-count": str(retry_count)},
    )


def test_a_key_that_comes_again_gets_the_pictures_of_its_job(serve: Serve) -> None:
    with serve() as running:
        answers = [keyed(running, "one"), keyed(running, "one"), keyed(running, "one", retry_count=1)]
        assert len(jobs_of(running)) == 1
        others = [keyed(running, "two"), keyed(running, "one", user="taro")]
        assert running.store.count("succeeded") == 3
    assert [answer.json() for answer in answers] == [answers[0].json()] * 3
    assert all(other.json()["data"] != answers[0].json()["data"] for other in others)


def test_a_key_that_comes_again_while_its_job_is_drawn_waits_for_it(serve: Serve) -> None:
    with serve() as running, ThreadPoolExecutor() as threads:
        running.engine.hold()
        answers = [threads.submit(keyed, running, "one", stream=stream) for stream in (False, False)]
        running.engine.wait_for_step()
        running.engine.release()
        assert answers[0].result().json() == answers[1].result().json()
        assert len(jobs_of(running)) == 1


def test_a_key_counts_before_a_clients_own_retry(serve: Serve) -> None:
    with serve() as running:
        post(running, 0)
        assert keyed(running, "new", retry_count=1).status_code == 200
        assert len(jobs_of(running)) == 2


@pytest.mark.parametrize("fields", [{"prompt": "a dog"}, {"n": 2}, {"stream": True}, {"response_format": "url"}])
def test_a_key_with_another_body_is_a_conflict_that_is_told_once(serve: Serve, fields: dict[str, Any]) -> None:
    sent: list[httpx.Request] = []
    with serve() as running, client_of(running, max_retries=2) as client:
        keyed(running, "one")
        client._client.event_hooks["request"].append(sent.append)
        body: dict[str, Any] = {"prompt": PROMPT, "model": MODEL} | fields
        with pytest.raises(openai.ConflictError) as raised:
            client.images.generate(**body, extra_headers={"Idempotency-Key": "one"})
        assert len(jobs_of(running)) == len(sent) == 1
    assert raised.value.code == "idempotency_conflict"


def test_a_key_whose_job_failed_is_told_so_again(serve: Serve) -> None:
    with serve() as running:
        running.engine.failure = RuntimeError("broken")
        assert [keyed(running, "one").status_code for _ in range(2)] == [500, 500]
        assert len(jobs_of(running)) == 1


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_that_is_none_is_refused_by_name(shared: RunningService, key: str) -> None:
    answer = keyed(shared, key)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "idempotency-key")


@pytest.mark.parametrize("model", [{}, {"model": None}, {"model": "dall-e-2"}, {"model": "dall-e-3"}])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_clients_of_dall_e_get_urls_that_they_can_fetch(serve: Serve, model: dict[str, Any], token: str) -> None:
    with serve(token=token) as running, client_of(running, api_key=token or "none") as client:
        answer = client.images.generate(prompt=PROMPT, n=2, **model)
        assert answer.data
        assert [image.b64_json for image in answer.data] == [None, None]
        assert all((image.url or "").startswith(f"{running.url}/v1/jobs/") for image in answer.data)
        for image in answer.data:
            fetched = httpx.get(image.url or "")
            assert (fetched.status_code, fetched.headers["content-type"]) == (200, "image/png")
        assert fetched.content[:4] == b"\x89PNG"


@pytest.mark.parametrize("model", ["kotoe-mini", *(name for name in ALIASES if not name.startswith("dall-e"))])
def test_clients_of_newer_models_get_base64(client: OpenAI, model: str) -> None:
    answer = client.images.generate(prompt=PROMPT, model=model)
    assert answer.data
    assert (answer.data[0].url, bool(answer.data[0].b64_json)) == (None, True)


@pytest.mark.parametrize("model", [{}, {"model": "dall-e-3"}, {"model": MODEL}])
@pytest.mark.parametrize("wanted", ["url", "b64_json"])
def test_whoever_says_what_they_want_gets_that(client: OpenAI, model: dict[str, Any], wanted: Any) -> None:
    answer = client.images.generate(prompt=PROMPT, response_format=wanted, **model)
    assert answer.data
    assert (bool(answer.data[0].url), bool(answer.data[0].b64_json)) == (wanted == "url", wanted == "b64_json")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # create_variation is, in the client
@pytest.mark.parametrize("size", [67_000, 20_000_000])
@pytest.mark.parametrize("call", ["edit", "create_variation"])
def test_edits_are_not_found_whatever_their_size(client: OpenAI, size: int, call: str) -> None:
    picture = ("picture.png", io.BytesIO(b"\x89PNG" + b"\0" * size), "image/png")
    fields: dict[str, Any] = {"prompt": PROMPT} if call == "edit" else {}
    with pytest.raises(openai.NotFoundError) as raised:
        getattr(client.images, call)(image=picture, **fields)
    assert raised.value.code == "not_found"
    assert "POST /v1/images/generations" in raised.value.message
    assert client.images.generate(prompt=PROMPT).data


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/images/variations", "/v1/images/edits/"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_edits_are_not_found_by_any_method(shared: RunningService, path: str, method: str) -> None:
    answer = shared.http.request(method, path, content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 404
    assert "POST /v1/images/generations" in answer.json()["error"]["message"]


def test_what_does_not_exist_is_not_found_whatever_is_sent_there(shared: RunningService) -> None:
    with client_of(shared) as client, pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(file=("a.wav", io.BytesIO(b"\0" * 5_000_000)), model="whisper-1")
    assert shared.http.post("/healthz", content=b" " * 5_000_000).status_code == 405


def test_a_retry_finds_its_job_while_the_model_loads_after_a_restart(serve: Serve) -> None:
    with serve() as running:
        first = post(running, 0).json()
    may_load = threading.Event()

    def slow_engine() -> FakeEngine:
        may_load.wait()
        return FakeEngine()

    with serve(open_engine=slow_engine) as running:
        again = post(running, 1)
        may_load.set()
    assert again.json() == first


@pytest.mark.parametrize("value", ["x", "-1", "1.5"])
def test_a_retry_count_that_is_none_is_refused_by_name(shared: RunningService, value: str) -> None:
    answer = shared.http.post(
        "/v1/images/generations", json={"prompt": PROMPT}, headers={"x-stainless-retry-count": value}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-stainless-retry-count")


def test_many_async_clients_get_their_own_pictures(shared: RunningService) -> None:
    async def draw() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{shared.url}/v1", api_key="none", max_retries=0) as client:
            calls = [
                client.images.generate(prompt=PROMPT, model=MODEL, extra_body={"seed": seed}) for seed in range(10)
            ]
            return list(await asyncio.gather(*calls))

    for seed, answer in enumerate(asyncio.run(draw())):
        with opened(answer.data[0]) as png:
            assert png.tobytes() == pixels(PROMPT, seed)


def test_an_async_client_streams(shared: RunningService) -> None:
    async def draw() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{shared.url}/v1", api_key="none", max_retries=0) as client:
            return [event async for event in await client.images.generate(prompt=PROMPT, model=MODEL, stream=True, n=2)]

    events = asyncio.run(draw())
    assert [(event.type, event.index) for event in events] == [("image_generation.completed", i) for i in range(2)]

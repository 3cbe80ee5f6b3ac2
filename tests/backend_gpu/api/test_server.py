"""The end of the service: what it has begun is finished or kept, and whoever waits is told."""

import base64
import contextlib
import io
import json
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from backend_gpu.api.server import Server, listen
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of, running_service
from tests.backend_gpu.fake_engine import FakeEngine
from tests.backend_gpu.waiting import WAIT_S, wait_until

BODY = {"prompt": "a red apple"}


def test_no_part_of_an_answer_waits_until_the_one_before_is_acknowledged() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def start_following(running: RunningService, threads: ThreadPoolExecutor, job_id: str) -> Future[list[dict[str, Any]]]:
    """Follow a job to the end of its stream; when this returns, the first event has come."""
    has_begun = threading.Event()

    def follow() -> list[dict[str, Any]]:
        documents = []
        with httpx.stream("GET", f"{running.url}/v1/jobs/{job_id}/events", timeout=WAIT_S) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    documents.append(json.loads(line.removeprefix("data:")))
                    has_begun.set()
        return documents

    following = threads.submit(follow)
    assert has_begun.wait(WAIT_S)
    return following


def test_the_running_batch_is_finished_and_its_followers_are_told(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        with running_service(tmp_path) as running:
            running.engine.hold()
            job_id = running.submit()["id"]
            following = start_following(running, threads, job_id)
            plain = threads.submit(httpx.post, f"{running.url}/v1/images/generations", json=BODY, timeout=WAIT_S)
            running.wait_for(job_id, "running")
            wait_until(lambda: running.store.of_owner("openai", 1))
        assert following.result()[-1]["status"] == "succeeded"
        plain.result()
    with running_service(tmp_path) as running:
        assert running.job(job_id)["status"] == "succeeded"


def test_no_job_is_begun_any_more_and_those_who_wait_are_told(tmp_path: Path) -> None:
    engine = FakeEngine()
    with ThreadPoolExecutor() as threads:
        with running_service(tmp_path, engine) as running:
            engine.hold()
            first = running.submit(steps=10)["id"]
            running.wait_for(first, "running")
            queued = running.submit(steps=11)["id"]
            following = start_following(running, threads, queued)
            plain = threads.submit(httpx.post, f"{running.url}/v1/images/generations", json=BODY, timeout=WAIT_S)
            wait_until(lambda: len(running.store.of_owner("openai", 10)) == 1)
            batches = len(engine.batches)
        assert [document["status"] for document in following.result()] == ["queued"] * len(following.result())
        answer = plain.result()
    error = error_of(answer, 503, "service_stopping")
    assert "is kept" in error["message"]
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert len(engine.batches) == batches
    with running_service(tmp_path) as running:
        assert running.wait_for(queued)["status"] == "succeeded"
        assert running.job(first)["status"] == "succeeded"
        retried = running.http.post("/v1/images/generations", json=BODY, headers={"x-stainless-retry-count": "1"})
        assert retried.status_code == 200
        assert len(running.store.of_owner("openai", 10)) == 1


def test_a_batch_that_outlasts_the_grace_is_put_back_and_drawn_after_the_next_start(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        with running_service(tmp_path, FakeEngine(step_s=0.05), grace_s=0.2) as running:
            job_id = running.submit(steps=200, seed=3)["id"]
            running.wait_for(job_id, "running")
            following = start_following(running, threads, job_id)
            client = OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
            stream = client.images.generate(prompt="a red apple", stream=True)
            wait_until(lambda: running.store.count("queued") == 1)
        assert following.result()[-1]["status"] == "queued"
        with pytest.raises(openai.APIError) as raised:
            list(stream)
        client.close()
    assert raised.value.code == "service_stopping"
    with running_service(tmp_path) as running:
        job = running.wait_for(job_id)
        undisturbed = running.wait_for(running.submit(steps=200, seed=3)["id"])
        pictures = [running.http.get(done["images"][0]["url"]).content for done in (job, undisturbed)]
    assert job["status"] == "succeeded"
    assert pictures[0] == pictures[1]


def test_a_stream_of_the_openai_face_completes_while_the_service_stops(tmp_path: Path) -> None:
    with running_service(tmp_path) as running:
        running.engine.hold()
        client = OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
        stream: Any = client.images.generate(prompt="a red apple", stream=True, partial_images=1)
        events: list[Any] = []
        reader = threading.Thread(target=lambda: events.extend(stream))
        reader.start()
        wait_until(lambda: running.store.count("running") == 1)
    reader.join()
    client.close()
    assert events[-1].type == "image_generation.completed"
    with Image.open(io.BytesIO(base64.b64decode(events[-1].b64_json))) as png:
        assert png.size == (256, 256)


def test_a_service_that_still_loads_its_model_stops_all_the_same(serve: Serve) -> None:
    may_load = threading.Event()

    def slow_engine() -> FakeEngine:
        may_load.wait()
        return FakeEngine()

    with contextlib.ExitStack() as stack:
        stack.callback(may_load.set)  # after the service has stopped
        running = stack.enter_context(serve(open_engine=slow_engine, grace_s=0.1))
        assert running.http.get("/healthz").status_code == 200


def test_an_idle_connection_is_kept_for_longer_than_clients_use_it(shared: RunningService) -> None:
    assert Server(shared.service).config.timeout_keep_alive > (httpx.Limits().keepalive_expiry or 0)


def test_a_stopped_service_does_not_listen(serve: Serve) -> None:
    with serve() as running:
        pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/healthz")

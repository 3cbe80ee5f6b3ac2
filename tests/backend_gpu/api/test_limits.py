"""How much may be asked for."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from backend_gpu.errors import CheckpointError
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of
from tests.backend_gpu.fake_engine import FakeEngine
from tests.backend_gpu.jobs.clock import Clock
from tests.backend_gpu.waiting import wait_until


def refused(running: RunningService, code: str, **fields: Any) -> tuple[dict[str, Any], int]:
    """The error of a submission that has to wait, and the seconds that it names in its header."""
    answer = running.http.post("/v1/jobs", json={"prompt": "a red apple"} | fields)
    error = error_of(answer, 429, code)
    assert error["type"] == "rate_limit_error"
    retry_after = int(answer.headers["retry-after"])
    assert 1 <= retry_after <= 120
    return error, retry_after


def test_a_full_queue_is_told_with_the_time_to_wait(serve: Serve) -> None:
    with serve(max_queued_jobs=2) as running:
        running.engine.hold()
        running.wait_for(running.submit(steps=1)["id"], "running")
        jobs = [running.submit(owner=owner) for owner in ("a", "b")]
        error, retry_after = refused(running, "queue_full", owner="c")
        assert "2 jobs wait, at most 2" in error["message"]
        assert re.search(rf"again in {retry_after} s", error["message"])
        running.http.post(f"/v1/jobs/{jobs[0]['id']}/cancel")
        running.submit(owner="c")


def test_an_owners_jobs_are_capped_and_others_are_not_harmed(serve: Serve) -> None:
    with serve(max_jobs_per_owner=2) as running:
        running.engine.hold()
        ids = [running.submit(owner="hog")["id"] for _ in range(2)]
        running.wait_for(ids[0], "running")
        error, _ = refused(running, "rate_limit_exceeded", owner="hog")
        assert "2 jobs waiting or running, at most 2" in error["message"]
        assert re.search(r"about \d+ s", error["message"])
        running.submit(owner="modest")
        running.http.post(f"/v1/jobs/{ids[1]}/cancel")
        running.submit(owner="hog")


def test_an_owners_pictures_are_capped_per_window(serve: Serve) -> None:
    with serve(quota_pictures=5, quota_window_s=100) as running:
        running.store.clock = clock = Clock()
        running.submit(owner="hog", n=3)
        clock.advance(30)
        error, retry_after = refused(running, "rate_limit_exceeded", owner="hog", n=3)
        assert "at most 5 pictures in 100 s" in error["message"]
        assert "2 are left and 3 were asked for" in error["message"]
        assert retry_after == 70
        assert "more are free in 70 s" in error["message"]
        running.submit(owner="hog", n=2)
        running.submit(owner="modest", n=3)


def test_the_window_moves_on(serve: Serve) -> None:
    with serve(quota_pictures=1, quota_window_s=10) as running:
        running.store.clock = clock = Clock()
        running.submit()
        clock.advance(9.9)
        _, retry_after = refused(running, "rate_limit_exceeded")
        assert retry_after == 1
        clock.advance(0.2)
        running.submit()


@pytest.mark.parametrize("ahead_s", [3600, 365 * 86400])
def test_a_wait_is_never_told_longer_than_the_window(serve: Serve, ahead_s: float) -> None:
    with serve(quota_pictures=1, quota_window_s=60) as running:
        running.store.clock = clock = Clock()
        clock.advance(ahead_s)
        running.submit()
        clock.advance(-ahead_s)
        error, retry_after = refused(running, "rate_limit_exceeded")
        assert retry_after == 60
        assert "more are free in 60 s" in error["message"]
        running.store.prune(86400)  # as the worker does every few seconds
        clock.advance(61)
        running.submit()


def test_the_quota_survives_a_restart(serve: Serve) -> None:
    with serve(quota_pictures=5, quota_window_s=100) as running:
        running.submit(owner="hog", n=3)
    with serve(quota_pictures=5, quota_window_s=100) as running:
        error, _ = refused(running, "rate_limit_exceeded", owner="hog", n=3)
        assert "2 are left and 3 were asked for" in error["message"]
        running.submit(owner="hog", n=2)


def test_the_quota_counts_jobs_that_are_forgotten_otherwise(serve: Serve) -> None:
    with serve(quota_pictures=2, quota_window_s=100, keep_jobs_s=0.001) as running:
        for _ in range(2):
            running.wait_for(running.submit(owner="hog")["id"])
        refused(running, "rate_limit_exceeded", owner="hog")


def test_more_pictures_than_the_window_ever_has_are_not_worth_waiting_for(serve: Serve) -> None:
    with serve(quota_pictures=2) as running:
        error = error_of(running.http.post("/v1/jobs", json={"prompt": "a", "n": 3}), 400, "invalid_prompt")
    assert error["param"] == "n"
    assert "n is 3, at most 2" in error["message"]


def test_a_refused_job_does_not_use_up_the_quota(serve: Serve) -> None:
    with serve(quota_pictures=2, max_jobs_per_owner=1) as running:
        running.engine.hold()
        first = running.submit()
        for _ in range(3):
            refused(running, "rate_limit_exceeded")
        running.engine.release()
        running.wait_for(first["id"])
        running.submit()


def test_the_quota_holds_when_all_ask_at_once(serve: Serve) -> None:
    with serve(quota_pictures=5) as running, ThreadPoolExecutor(10) as threads:
        body = {"prompt": "a red apple"}
        statuses = list(threads.map(lambda _: running.http.post("/v1/jobs", json=body).status_code, range(10)))
    assert sorted(statuses) == [202] * 5 + [429] * 5


def test_the_queues_cap_holds_when_all_ask_at_once(serve: Serve) -> None:
    with serve(max_queued_jobs=5) as running, ThreadPoolExecutor(10) as threads:
        running.engine.hold()
        running.wait_for(running.submit(steps=1)["id"], "running")
        body = {"prompt": "a red apple"}
        statuses = list(threads.map(lambda _: running.http.post("/v1/jobs", json=body).status_code, range(10)))
    assert sorted(statuses) == [202] * 5 + [429] * 5


def test_the_owner_served_longest_ago_goes_next(serve: Serve) -> None:
    with serve(max_batch_pictures=1) as running:
        running.engine.hold()
        running.wait_for(running.submit(owner="hog")["id"], "running")
        hog = [running.submit(owner="hog")["id"] for _ in range(3)]
        modest = running.submit(owner="modest")["id"]
        assert running.job(modest)["position"] == 1
        running.engine.release()
        ended = {job_id: running.wait_for(job_id)["finished_at"] for job_id in [*hog, modest]}
    assert min(ended, key=ended.__getitem__) == modest


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
def test_a_model_that_is_loading_is_told_with_the_time_to_wait(serve: Serve, path: str) -> None:
    may_load = threading.Event()

    def slow_engine() -> FakeEngine:
        may_load.wait()
        return FakeEngine()

    with serve(open_engine=slow_engine) as running:
        answers = [running.http.post(path, json={"prompt": "a red apple"}), running.http.get("/readyz")]
        assert running.http.get("/healthz").json() == {"status": "ok"}
        may_load.set()
    for answer in answers:
        error = error_of(answer, 503, "model_loading")
        assert f"again in {answer.headers['retry-after']} s" in error["message"]


def test_a_model_that_cannot_be_loaded_says_why(serve: Serve) -> None:
    def no_engine() -> FakeEngine:
        raise CheckpointError("the weights are missing: run make weights")

    with serve(open_engine=no_engine) as running:
        wait_until(lambda: bool(running.worker.load_error))
        error = error_of(running.http.get("/readyz"), 503, "model_loading")
        status = running.http.get("/v1/status").json()
    assert "the weights are missing: run make weights" in error["message"]
    assert status["load_error"] == "the weights are missing: run make weights"
    assert (status["ready"], status["model"]) == (False, None)

"""The native face's Server-Sent Events."""

import functools
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from backend_gpu.api import events
from backend_gpu.jobs import progress
from tests.backend_gpu.api.running_service import RunningService, Serve, running_service
from tests.backend_gpu.waiting import wait_until


def lines_of(running: RunningService, job_id: str) -> Iterator[str]:
    with running.http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield from answer.iter_lines()


def events_of(running: RunningService, job_id: str) -> list[dict[str, Any]]:
    """Every document of a job until the stream ends."""
    lines = list(lines_of(running, job_id))
    names = {line for line in lines if line.startswith("event:")}
    assert names == {"event: job"}
    last = max(number for number, line in enumerate(lines) if line == "event: job")
    assert [number for number, line in enumerate(lines) if line.startswith("id:")] == [last - 1]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data:")]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All documents of a job of 10 + 4 steps that was followed from the queue to its end; every step is told."""
    with pytest.MonkeyPatch.context() as patch, running_service(tmp_path_factory.mktemp("followed")) as running:
        patch.setattr(progress, "PUBLISH_INTERVAL_S", 0.0)
        running.engine.hold()
        running.submit(steps=1)
        running.engine.wait_for_step()
        job_id = running.submit(n=2)["id"]
        documents: list[dict[str, Any]] = []

        def follow() -> None:
            lines = (line for line in lines_of(running, job_id) if line.startswith("data:"))
            documents.extend(json.loads(line.removeprefix("data: ")) for line in lines)  # one by one, as they come

        follower = threading.Thread(target=follow)
        follower.start()
        wait_until(lambda: documents)
        running.engine.allow(1 + 4)  # of the job before it
        running.engine.wait_for_step()
        for step in range(1, 10 + 4):
            running.engine.allow(1)
            wait_until(functools.partial(has_done, documents, step))
        running.engine.release()
        follower.join()
        return documents


def has_done(documents: list[dict[str, Any]], steps: int) -> bool:
    """Whether so many of the 10 + 4 steps were told."""
    progress = documents[-1]["progress"]
    return bool(progress) and progress["step"] + 10 * (progress["stage"] == "upsample") == steps


def test_a_job_is_followed_from_the_queue_to_its_end(followed: list[dict[str, Any]]) -> None:
    statuses = [document["status"] for document in followed]
    assert statuses == sorted(statuses, key=["queued", "running", "succeeded"].index)
    assert set(statuses) == {"queued", "running", "succeeded"}
    assert statuses.count("succeeded") == 1
    assert len(followed[-1]["images"]) == 2


def test_every_event_carries_the_whole_job(shared: RunningService, followed: list[dict[str, Any]]) -> None:
    fields = set(shared.submit())
    assert all(set(document) == fields for document in followed)


def test_a_running_job_shows_at_least_five_different_previews(followed: list[dict[str, Any]]) -> None:
    shown = [document for document in followed if document["preview"]]
    steps = {(document["progress"]["stage"], document["progress"]["step"]) for document in shown}
    assert len(steps) >= 5
    assert all(document["preview"].startswith("data:image/png;base64,iVBOR") for document in shown)


def test_progress_only_grows_and_goes_through_both_stages(followed: list[dict[str, Any]]) -> None:
    seen = [document["progress"] for document in followed if document["progress"]]
    fractions = [progress["fraction"] for progress in seen]
    assert fractions == sorted(fractions)
    assert [progress["step"] for progress in seen if progress["stage"] == "base"] == list(range(1, 11))
    upsample = [progress["step"] for progress in seen if progress["stage"] == "upsample"]
    assert upsample in ([1, 2, 3], [1, 2, 3, 4])  # the job's end may overtake the last one


def test_no_event_repeats_the_one_before(followed: list[dict[str, Any]]) -> None:
    assert all(before != after for before, after in itertools.pairwise(followed))


def test_an_ended_job_is_told_in_one_event(shared: RunningService) -> None:
    job = shared.wait_for(shared.submit()["id"])
    assert events_of(shared, job["id"]) == [job]


def end_id_of(running: RunningService, job_id: str) -> str:
    (line,) = [line for line in lines_of(running, job_id) if line.startswith("id:")]
    return line.removeprefix("id: ")


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_a_browser_that_has_seen_the_end_is_told_to_stop(serve: Serve, end: str) -> None:
    with serve() as running:
        running.engine.hold()
        job_id = running.submit()["id"]
        running.engine.wait_for_step()
        if end == "cancelled":
            running.http.post(f"/v1/jobs/{job_id}/cancel")
        if end == "failed":
            running.engine.failure = RuntimeError("broken")
        running.engine.release()
        assert running.wait_for(job_id)["status"] == end
        path, seen = f"/v1/jobs/{job_id}/events", {"Last-Event-ID": end_id_of(running, job_id)}
        answer = running.http.get(path, headers=seen)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["x-request-id"]
        assert running.http.head(path, headers=seen).status_code == 204


def test_an_id_of_something_else_is_no_reason_to_stop(shared: RunningService) -> None:
    job, other = (shared.wait_for(shared.submit()["id"]) for _ in range(2))
    other_id = end_id_of(shared, other["id"])
    for last_event_id in ("", "0", job["id"], other_id, f"{job['id']}-running", f"{job['id']}-failed", "None"):
        answer = shared.http.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": last_event_id})
        assert answer.status_code == 200
        assert json.loads(answer.text.partition("data: ")[2]) == job


def test_whoever_has_seen_the_end_of_a_forgotten_job_is_told_that_it_is_not_there(shared: RunningService) -> None:
    job_id = "0" * 32
    answer = shared.http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": f"{job_id}-succeeded"})
    assert answer.status_code == 404


def test_places_in_the_queue_are_told_when_they_change(serve: Serve) -> None:
    with serve() as running:
        running.engine.hold()
        ids = [running.submit(steps=steps)["id"] for steps in (1, 2, 3)]
        running.wait_for(ids[0], "running")
        seen: list[dict[str, Any]] = []
        follower = threading.Thread(target=lambda: seen.extend(events_of(running, ids[2])))
        follower.start()
        wait_until(lambda: bool(running.feed._listeners))
        running.http.post(f"/v1/jobs/{ids[1]}/cancel")
        running.engine.release()
        follower.join()
    assert [document["position"] for document in seen][:2] == [2, 1]
    assert seen[-1]["status"] == "succeeded"


def test_a_cancelled_job_ends_its_stream(serve: Serve) -> None:
    with serve() as running:
        running.engine.hold()
        job_id = running.submit()["id"]
        running.wait_for(job_id, "running")
        cancelling = threading.Timer(0.1, lambda: running.http.post(f"/v1/jobs/{job_id}/cancel"))
        cancelling.start()
        assert events_of(running, job_id)[-1]["status"] == "cancelled"
        cancelling.join()


def test_a_silent_stream_has_a_comment_at_every_heartbeat(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    assert events.HEARTBEAT_S == 10
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    with serve() as running:
        running.engine.hold()
        lines = lines_of(running, running.submit()["id"])
        comments = [next(line for line in lines if line.startswith(":")) for _ in range(3)]
    assert comments == [": still here"] * 3


def test_a_follower_that_goes_away_leaves_nothing_behind(serve: Serve) -> None:
    with serve() as running:
        running.engine.hold()
        job_id = running.submit()["id"]
        with httpx.stream("GET", f"{running.url}/v1/jobs/{job_id}/events") as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: job"
            assert running.feed._listeners
        wait_until(lambda: not running.feed._listeners)


def test_many_followers_see_the_same_end(serve: Serve) -> None:
    with serve() as running:
        running.engine.hold()
        job_id = running.submit()["id"]
        ends: list[dict[str, Any]] = []
        followers = [threading.Thread(target=lambda: ends.append(events_of(running, job_id)[-1])) for _ in range(10)]
        for follower in followers:
            follower.start()
        wait_until(lambda: len(running.feed._listeners.get(job_id, ())) == 10)
        running.engine.release()
        for follower in followers:
            follower.join()
        assert ends == [running.job(job_id)] * 10

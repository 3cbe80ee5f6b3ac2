"""The service under SIGKILL: what it has accepted is drawn, once, as if nothing had happened. `make test-crash`."""

import io
import itertools
import random
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import PngImagePlugin

from backend_gpu.gallery import MODEL_FOLDER, picture_name
from tests.backend_gpu.service_process import ServiceProcess
from tests.backend_gpu.waiting import wait_until

pytestmark = pytest.mark.crash

KILLS = 20
JOBS: list[dict[str, Any]] = [
    {
        "prompt": f"a {colour} {thing}",
        "source_prompt": "りんご",
        "seed": 100 * number,
        "n": 1 + number % 2,
        "steps": 3 + number % 2,
        "upsample_steps": 1,
        "upscale": number % 5 == 0,
        "owner": f"owner-{number % 4}",
    }
    for number, (colour, thing) in enumerate(
        itertools.product(("red", "blue", "green", "yellow"), ("apple", "cat", "dog", "star", "car"))
    )
]
JOBS[0]["steps"] = 250  # long enough to be met while it is drawn, however fast the machine
ROUNDING = 2  # of 255: a matrix product of another batch size rounds otherwise
SETTINGS = {"max_attempts": 1000, "max_batch_pictures": 4}  # these kills come from outside: no job is to blame


@dataclass
class Load:
    """A caller that submits all jobs, each with a key, and tries again until it is accepted."""

    accepted: dict[int, str] = field(default_factory=dict)  # number in JOBS: id
    service: ServiceProcess | None = None
    may_submit: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def run(self) -> None:
        for number, job in enumerate(JOBS):
            self.may_submit.acquire()
            while number not in self.accepted:
                service = self.service
                try:
                    assert service
                    answer = httpx.post(
                        f"{service.url}/v1/jobs", json=job, headers={"Idempotency-Key": f"job {number}"}
                    )
                    if answer.status_code == 202:
                        self.accepted[number] = answer.json()["id"]
                except (httpx.HTTPError, AssertionError, OSError):
                    time.sleep(0.01)  # killed, and not yet up again


@dataclass
class Outcome:
    """What is left of a run."""

    jobs: dict[int, dict[str, Any]]
    files: dict[str, bytes]  # of the gallery, by path
    leftovers: list[Path]
    attempts: list[int]
    ended_early: dict[str, float] = field(default_factory=dict)  # when jobs ended that had ended before some kill


def pictures_of(data_dir: Path) -> dict[str, bytes]:
    gallery = data_dir / "gallery"
    files = (path for path in gallery.rglob("*") if path.is_file() and path.parent.name != MODEL_FOLDER)
    return {str(path.relative_to(gallery)): path.read_bytes() for path in files}


def finish(service: ServiceProcess, ids: dict[int, str]) -> Outcome:
    """Wait until all is drawn and delivered, and end the service in good order."""
    jobs = {number: service.wait_for(job_id) for number, job_id in ids.items()}
    finished = service.data_dir / "finished"
    wait_until(lambda: not list(finished.iterdir()))
    assert service.terminate() == 0
    with sqlite3.connect(service.data_dir / "jobs.sqlite3") as connection:
        attempts = [row[0] for row in connection.execute("SELECT attempts FROM jobs")]
    connection.close()
    return Outcome(jobs, pictures_of(service.data_dir), list(finished.iterdir()), attempts)


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All jobs, with 20 kills at random moments of their submission and drawing."""
    data_dir, random_moments, load = tmp_path_factory.mktemp("disturbed") / "data", random.Random(20), Load()
    ended_early: dict[str, float] = {}
    caller = threading.Thread(target=load.run)
    caller.start()
    for life in range(KILLS):
        with ServiceProcess(data_dir, **SETTINGS) as service:
            load.service = service
            if life % 2:  # while it starts: imports, recovery, delivery, loading
                time.sleep(random_moments.uniform(0.3, 1.5))
                continue
            service.wait_until_ready()
            load.may_submit.release(2)
            if life == 0:
                wait_until(lambda: 0 in load.accepted)
                service.wait_for(load.accepted[0], "running")
            elif life == 2:
                wait_until(lambda: 1 in load.accepted)
                service.wait_for(load.accepted[1], "succeeded")
            for job_id in list(load.accepted.values()):
                job = service.job(job_id)
                if job["status"] == "succeeded":
                    assert ended_early.setdefault(job_id, job["finished_at"]) == job["finished_at"]
            time.sleep(random_moments.uniform(0, 0.6))  # while it accepts, draws, keeps and delivers
        for name, content in pictures_of(data_dir).items():
            assert name.endswith(".new") or content.endswith(b"IEND\xaeB`\x82"), f"{name} is half a picture"
    with ServiceProcess(data_dir, **SETTINGS) as service:
        load.service = service
        caller.join()
        outcome = finish(service, load.accepted)
    outcome.ended_early = ended_early
    return outcome


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with ServiceProcess(tmp_path_factory.mktemp("undisturbed") / "data", **SETTINGS) as service:
        service.wait_until_ready()
        return finish(service, {number: service.submit(**job)["id"] for number, job in enumerate(JOBS)})


def test_a_kill_hit_a_job_that_was_being_drawn(disturbed: Outcome) -> None:
    assert max(disturbed.attempts) > 1


def test_every_accepted_job_has_succeeded_once(disturbed: Outcome) -> None:
    assert {job["status"] for job in disturbed.jobs.values()} == {"succeeded"}
    assert len({job["id"] for job in disturbed.jobs.values()}) == len(JOBS)
    assert len(disturbed.attempts) == len(JOBS)  # no job that nobody knows of


def test_a_job_that_has_succeeded_is_not_drawn_again(disturbed: Outcome) -> None:
    ended = {job["id"]: job["finished_at"] for job in disturbed.jobs.values()}
    assert disturbed.ended_early
    assert disturbed.ended_early.items() <= ended.items()


def expected_names(outcome: Outcome) -> set[str]:
    return {
        f"{job['request']['owner']}/{picture_name(job['created_at'], job['id'], index)}"
        for job in outcome.jobs.values()
        for index in range(job["request"]["n"])
    }


def test_the_gallery_has_exactly_the_pictures_and_nothing_is_left_over(disturbed: Outcome) -> None:
    assert set(disturbed.files) == expected_names(disturbed)
    assert disturbed.leftovers == []


def test_the_pictures_are_those_of_a_run_that_nobody_disturbed(disturbed: Outcome, undisturbed: Outcome) -> None:
    assert set(undisturbed.files) == expected_names(undisturbed)
    for number, job in disturbed.jobs.items():
        for index in range(job["request"]["n"]):
            pixels, records = zip(
                *(opened(outcome, number, index) for outcome in (disturbed, undisturbed)), strict=True
            )
            assert records[0] == records[1]
            assert np.abs(pixels[0].astype(int) - pixels[1]).max() <= ROUNDING


def opened(outcome: Outcome, number: int, index: int) -> tuple[Any, dict[str, Any]]:
    """The pixels and the record of a picture."""
    (name,) = [name for name in outcome.files if name.endswith(f"{outcome.jobs[number]['id']}_{index}.png")]
    with PngImagePlugin.PngImageFile(io.BytesIO(outcome.files[name])) as png:
        return np.asarray(png), dict(png.text)


def test_a_job_whose_drawing_is_killed_twice_has_failed_and_takes_nobody_along(tmp_path: Path) -> None:
    endless = {"steps": 250, "upscale": False}
    with ServiceProcess(tmp_path / "data") as service:
        service.wait_until_ready()
        blocker = service.submit(steps=30, upscale=False)["id"]
        victim, mate = (service.submit(owner=owner, **endless)["id"] for owner in ("victim", "mate"))
        service.wait_for(blocker)
        service.wait_for(victim, "running")
        assert service.job(mate)["status"] == "running"  # in the same batch
        others = [service.submit(owner="other", steps=steps, upscale=False)["id"] for steps in (2, 3)]
    with ServiceProcess(tmp_path / "data") as service:
        service.wait_until_ready()
        service.wait_for(victim, "running")
        assert service.job(mate)["status"] == "queued"
    with ServiceProcess(tmp_path / "data") as service:
        service.wait_until_ready()
        failed = service.job(victim)
        for job_id in (mate, *others, service.submit(steps=2, upscale=False)["id"]):
            assert service.wait_for(job_id)["status"] == "succeeded"
        assert failed == service.job(victim)
        assert service.terminate() == 0
    assert (failed["status"], failed["error"]["code"], failed["images"]) == ("failed", "engine_crashed", [])
    assert "2 times" in failed["error"]["message"]

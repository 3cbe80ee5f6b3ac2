"""The service started on a disk without room: it comes up, says so, takes nothing, and goes on when there is room."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from backend_gpu.jobs.store import JobStore
from tests.backend_gpu.jobs.conftest import a_request
from tests.backend_gpu.service_process import ServiceProcess
from tests.backend_gpu.waiting import wait_until

# Bytes that a file may have: all that are needed for the log; SQLite's -shm has 32 KiB, its -wal is longer than both
ROOM_TO_START, ROOM_TO_READ = 24 * 1024, 40 * 1024
SHORT: dict[str, Any] = {"steps": 2, "upscale": False}


@contextmanager
def started_on_a_full_disk(data_dir: Path, room: int) -> Iterator[ServiceProcess]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # the process inherits it
    try:
        service = ServiceProcess(data_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with service:
        yield service


def make_room(service: ServiceProcess) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


def assert_nothing_is_taken(service: ServiceProcess) -> None:
    assert service.http.get("/healthz").status_code == 200
    wait_until(lambda: service.events("model loaded"))
    refused: list[Any] = [service.http.get("/readyz"), service.http.post("/v1/jobs", json={"prompt": "a cat"} | SHORT)]
    for answer in refused:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "storage_unavailable"
        assert int(answer.headers["retry-after"]) >= 1


def test_a_queue_that_can_be_read_but_not_written_is_worked_off_when_there_is_room(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path / "running" / "jobs.sqlite3")) as store:
        waiting = [store.add(a_request(**SHORT, owner=owner)).id for owner in ("anna", "ben", "cleo")]
        assert (tmp_path / "running" / "jobs.sqlite3-wal").stat().st_size > ROOM_TO_READ
        shutil.copytree(tmp_path / "running", tmp_path / "data")  # as a crash leaves it
    with started_on_a_full_disk(tmp_path / "data", ROOM_TO_READ) as service:
        assert_nothing_is_taken(service)
        assert [service.job(job_id)["status"] for job_id in waiting] == ["queued"] * 3
        make_room(service)
        service.wait_until_ready()
        for job_id in (*waiting, service.submit(**SHORT)["id"]):
            assert service.wait_for(job_id)["status"] == "succeeded"


def test_a_queue_that_cannot_be_opened_is_opened_when_there_is_room(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path / "data" / "jobs.sqlite3")) as store:
        job_id = store.add(a_request(**SHORT)).id
    with started_on_a_full_disk(tmp_path / "data", ROOM_TO_START) as service:
        assert_nothing_is_taken(service)
        assert service.http.get(f"/v1/jobs/{job_id}").json()["error"]["code"] == "storage_unavailable"
        make_room(service)
        assert service.wait_for(job_id)["status"] == "succeeded"

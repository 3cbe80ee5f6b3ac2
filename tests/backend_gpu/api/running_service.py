"""A service on a real socket in this process, for tests to call."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from backend_gpu.api.server import Server
from backend_gpu.engine import Engine
from backend_gpu.service import Service, build_service
from backend_gpu.settings import Settings
from tests.backend_gpu.api.fake_engine import FakeEngine

WAIT_S = 10.0  # for what takes milliseconds unless something is wrong


@dataclass(frozen=True)
class RunningService:
    """A service on a real socket, its engine in the test's hand."""

    url: str
    service: Service
    engine: FakeEngine
    http: httpx.Client

    def submit(self, **fields: Any) -> dict[str, Any]:
        """Submit a job and return its document."""
        answer = self.http.post("/v1/jobs", json={"prompt": "a red apple"} | fields)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_for(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """The job's document as soon as it has one of these states, by default any final one."""
        wanted = statuses or ("succeeded", "failed", "cancelled")
        wait_until(lambda: self.job(job_id)["status"] in wanted)
        return self.job(job_id)


Serve = Callable[..., AbstractContextManager[RunningService]]


def wait_until(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@contextmanager
def running_service(
    data_dir: Path,
    engine: FakeEngine | None = None,
    open_engine: Callable[[], Engine] | None = None,
    **settings: Any,
) -> Iterator[RunningService]:
    """Serve on a free port of 127.0.0.1 from a thread of this process."""
    engine = engine or FakeEngine()
    made = Settings.model_validate({"data_dir": data_dir, "grace_s": 2.0} | settings)
    service = build_service(made, open_engine or (lambda: engine))
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = Server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    token = made.token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=WAIT_S) as http:
            wait_until(lambda: server.started)
            if open_engine is None:
                wait_until(lambda: service.worker.is_ready)
            yield RunningService(url, service, engine, http)
    finally:
        engine.release()
        server.should_exit = True
        thread.join()


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error that an answer tells, in the one form that errors have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert body["error"]["code"] == code
    return dict(body["error"])

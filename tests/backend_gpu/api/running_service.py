"""The service on a real socket in this process, its engine a fake one in the test's hand.

For the real engine in a process that can be killed see `service_process.py`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from backend_gpu.api.server import Server, listen
from backend_gpu.engine import Engine
from backend_gpu.engine.models import Family
from backend_gpu.jobs.feed import Feed
from backend_gpu.jobs.pictures import Pictures
from backend_gpu.jobs.store import JobStore
from backend_gpu.jobs.worker import Worker
from backend_gpu.service import Service, build_service, queue_options
from backend_gpu.settings import Settings
from tests.backend_gpu.fake_engine import FakeEngine
from tests.backend_gpu.service_calls import ServiceCalls
from tests.backend_gpu.waiting import WAIT_S, wait_until


@dataclass(frozen=True)
class RunningService(ServiceCalls):
    """A running service and its parts."""

    url: str
    service: Service
    server: Server
    engine: FakeEngine
    http: httpx.Client

    @property
    def store(self) -> JobStore:
        return self.service.queue._store

    @property
    def pictures(self) -> Pictures:
        return self.service.queue._pictures

    @property
    def feed(self) -> Feed:
        return self.service.queue._feed

    @property
    def worker(self) -> Worker:
        return self.service.queue._worker


Serve = Callable[..., AbstractContextManager[RunningService]]


@contextmanager
def running_service(
    data_dir: Path,
    engine: FakeEngine | None = None,
    open_engine: Callable[[], Engine] | None = None,
    family: Family | None = None,
    storage_retry_s: float = 5.0,
    **settings: Any,
) -> Iterator[RunningService]:
    """Serve on a free port of 127.0.0.1 from a thread of this process."""
    engine = engine or FakeEngine()
    made = Settings.model_validate({"data_dir": data_dir, "grace_s": 2.0} | settings)
    options = queue_options(made)
    options = replace(options, worker=replace(options.worker, storage_retry_s=storage_retry_s))
    open_any = open_engine or (lambda: engine)
    family = family or Family(
        describe=lambda _: replace(engine.info, device="", model_hash=""), open=lambda _: open_any()
    )
    service = build_service(made, family, options)
    worker = service.queue._worker
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = Server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    token = made.token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # Without certificates, which take longer to read than the service to start
        with httpx.Client(base_url=url, headers=headers, timeout=WAIT_S, verify=False) as http:
            wait_until(lambda: server.started)
            if open_engine is None:
                wait_until(lambda: worker.is_ready)
            yield RunningService(url, service, server, engine, http)
    finally:
        server.should_exit = True
        wait_until(lambda: worker.slots.stopping.is_set() or not thread.is_alive())
        engine.release()  # not before: what a test has held is still there when the service stops
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

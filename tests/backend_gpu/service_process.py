"""`python -m backend_gpu` as a process of its own with the real engine, for tests to stop and kill.

For a fake engine that a test holds see `api/running_service.py`.
"""

import json
import os
import signal
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import httpx

from tests.backend_gpu.service_calls import ServiceCalls
from tests.backend_gpu.waiting import WAIT_S, wait_until

ROOT = Path(__file__).resolve().parents[2]


def environment(**settings: object) -> dict[str, str]:
    """The environment with these settings (`port` is BACKEND_PORT) and no others of the backend."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BACKEND_")}
    return inherited | {f"BACKEND_{name.upper()}": str(value) for name, value in settings.items()}


def run_backend(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the command until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "backend_gpu", *arguments],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )


def limited(max_files: tuple[int, int] | None) -> list[str]:
    """What starts a command with these limits."""
    if max_files is None:
        return []
    soft, hard = max_files
    return ["sh", "-c", f'ulimit -S -n {soft} && ulimit -H -n {hard} && exec "$0" "$@"']


class ServiceProcess(ServiceCalls):
    """A service on a free port; `log` gets what it writes to stderr.

    `max_files` are the soft and the hard limit of the files that it may open.
    """

    def __init__(self, data_dir: Path, max_files: tuple[int, int] | None = None, /, **settings: object) -> None:
        data_dir.mkdir(exist_ok=True)
        self.data_dir = data_dir
        self.log = data_dir / f"stderr-{len(list(data_dir.glob('stderr-*')))}.log"
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*limited(max_files), sys.executable, "-m", "backend_gpu"],
                cwd=ROOT,
                env=environment(**{"data_dir": data_dir, "port": 0, "device": "cpu"} | settings),
                stderr=stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Its address, as soon as it listens."""
        wait_until(lambda: self.process.poll() is not None or self.events("listening"))
        assert self.process.poll() is None, self.log.read_text()
        return str(self.events("listening")[0]["address"])

    @cached_property
    def http(self) -> httpx.Client:  # type: ignore[override] # its address is known only when the service listens
        """A client for the test's own thread."""
        return httpx.Client(base_url=self.url, timeout=WAIT_S)

    def events(self, message: str = "") -> list[dict[str, Any]]:
        """The whole lines of the log, or those of one kind."""
        text = self.log.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line for line in lines if message in ("", line["message"])]

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.http.get("/readyz").status_code == 200)

    def picture(self, job: dict[str, Any], index: int = 0) -> bytes:
        answer = self.http.get(job["images"][index]["url"])
        assert answer.status_code == 200, answer.text
        return answer.content

    def terminate(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)

    def kill(self) -> None:
        """End it at once, as the kernel does when memory is short; harmless if it has ended."""
        self.process.kill()
        self.process.wait(WAIT_S)
        if "http" in vars(self):
            self.http.close()

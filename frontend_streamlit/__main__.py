"""Start the page: `python -m frontend_streamlit`; with `--with-backend` the backend too, as `make run` does."""

import argparse
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import requests
from pydantic import ValidationError

from frontend_streamlit.settings import BackendSettings, Settings, environment_with, first_mistake

APP = Path(__file__).parent / "app.py"
READY_TIMEOUT_S = 600  # the published weights may have to be downloaded first
STOP_TIMEOUT_S = 40
POLL_INTERVAL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process to start."""

    name: str
    command: list[str]
    port_setting: str
    host: str
    port: int
    ready_path: str

    @property
    def url(self) -> str:
        """Where it is on this machine."""
        return f"http://127.0.0.1:{self.port}"


def main() -> int:
    """Run until Ctrl-C, SIGTERM or the end of one of the processes; what is wrong is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m frontend_streamlit", description=__doc__)
    parser.add_argument("--with-backend", action="store_true", help="start the backend as well, and wait for both")
    options = parser.parse_args()
    try:
        settings = Settings()
        backend_settings = BackendSettings() if options.with_backend else None
    except ValidationError as error:
        print(f"error: {first_mistake(error)}", file=sys.stderr)
        return 2
    parts = [page(settings)]
    defaults = {}
    if backend_settings is not None:
        parts.insert(0, backend(backend_settings))
        defaults = {
            "FRONTEND_BACKEND_URL": parts[0].url,
            "FRONTEND_BACKEND_TOKEN": backend_settings.token,
            "FRONTEND_GALLERY": backend_settings.gallery_root,
        }
    for part in parts:
        if is_taken(part.host, part.port):
            told = f"port {part.port} is taken: stop what uses it, or choose another with {part.port_setting}=…"
            print(f"error: {told}", file=sys.stderr)
            return 2
    stopped = threading.Event()
    for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(stop, lambda *_: stopped.set())
    return run(parts, environment_with(defaults), stopped)


def page(settings: Settings) -> Part:
    """Streamlit, without questions, statistics and its developer's menu."""
    options = {
        "server.port": settings.port,
        "server.address": settings.host,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return Part(
        name="page",
        command=[sys.executable, "-m", "streamlit", "run", str(APP), *flags],
        port_setting="FRONTEND_PORT",
        host=settings.host,
        port=settings.port,
        ready_path="/_stcore/health",
    )


def backend(settings: BackendSettings) -> Part:
    """The backend on this machine."""
    return Part(
        name="backend",
        command=[sys.executable, "-m", "backend_gpu"],
        port_setting="BACKEND_PORT",
        host="127.0.0.1",
        port=settings.port,
        ready_path="/readyz",
    )


def run(parts: list[Part], environment: Mapping[str, str], stopped: threading.Event) -> int:
    """Start the processes in this order, say when all are ready, and end all when one ends."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for part in parts:  # in sessions of their own: Ctrl-C reaches them through us, once
            process = subprocess.Popen(part.command, env=environment, start_new_session=True)
            processes.append(process)
        started_at, told = time.monotonic(), False
        while not stopped.wait(POLL_INTERVAL_S):
            for part, process in zip(parts, processes, strict=True):
                if process.poll() is not None:
                    told_why = f"the {part.name} has ended (exit code {process.returncode}): the lines above say why"
                    print(f"error: {told_why}", file=sys.stderr)
                    return 1
            if not told and all(answers(part.url + part.ready_path) for part in parts):
                told = True
                print(f"\n  言絵 is ready: {parts[-1].url}\n  Ctrl-C stops it.\n", flush=True)
            if not told and time.monotonic() - started_at > READY_TIMEOUT_S:
                print(f"error: not ready after {READY_TIMEOUT_S} s: the lines above say why", file=sys.stderr)
                return 1
        return 0
    finally:
        stop_all(processes)


def stop_all(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask all to end, and wait until they have."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_taken(host: str, port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def answers(url: str) -> bool:
    """Whether an address of this machine answers with success."""
    with requests.Session() as session:
        session.trust_env = False  # a proxy would look for it elsewhere
        try:
            return session.get(url, timeout=2).ok
        except requests.RequestException:
            return False


if __name__ == "__main__":
    sys.exit(main())

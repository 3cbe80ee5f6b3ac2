"""Start the page: `python -m frontend_streamlit`; with `--with-backend` the backend too, as `make run` does."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import requests
from pydantic import ValidationError

from frontend_streamlit.settings import Settings

APP = Path(__file__).parent / "app.py"
READY_TIMEOUT_S = 600  # the published weights may have to be downloaded first
STOP_TIMEOUT_S = 40
POLL_INTERVAL_S = 0.2


def main() -> int:
    """Run until Ctrl-C, SIGTERM or the end of one of the processes; what is wrong is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m frontend_streamlit", description=__doc__)
    parser.add_argument("--with-backend", action="store_true", help="start the backend as well, and wait for both")
    options = parser.parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        print(f"error: FRONTEND_{str(first['loc'][0]).upper()} is {first['input']!r}: {first['msg']}", file=sys.stderr)
        return 2
    environment = dict(os.environ)
    commands = {"page": page_command(settings)}
    ports = {"FRONTEND_PORT": settings.port}
    if options.with_backend:
        ports["BACKEND_PORT"] = int(environment.setdefault("BACKEND_PORT", "8000"))
        environment.setdefault("FRONTEND_BACKEND_URL", f"http://127.0.0.1:{ports['BACKEND_PORT']}")
        commands = {"backend": [sys.executable, "-m", "backend_gpu"]} | commands
    for name, port in ports.items():
        if is_taken(port):
            print(f"error: port {port} is taken: stop what uses it, or choose another with {name}=…", file=sys.stderr)
            return 2
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, raise_interrupt)
    return run(commands, environment, settings)


def page_command(settings: Settings) -> list[str]:
    """Streamlit, without questions, statistics and its developer's menu."""
    options = {
        "server.port": settings.port,
        "server.address": os.environ.get("FRONTEND_HOST", "127.0.0.1"),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(APP), *flags]


def run(commands: Mapping[str, list[str]], environment: Mapping[str, str], settings: Settings) -> int:
    """Start the processes in this order, say when all are ready, and end all when one ends."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            processes[name] = subprocess.Popen(command, env=environment, start_new_session=True)
        addresses = {"page": f"http://127.0.0.1:{settings.port}/_stcore/health"}
        if "backend" in commands:
            addresses["backend"] = f"{environment['FRONTEND_BACKEND_URL']}/readyz"
        started_at, told = time.monotonic(), False
        while all(process.poll() is None for process in processes.values()):
            if not told and all(answers(address) for address in addresses.values()):
                told = True
                print(f"\n  言絵 is ready: http://127.0.0.1:{settings.port}\n  Ctrl-C stops it.\n", flush=True)
            if not told and time.monotonic() - started_at > READY_TIMEOUT_S:
                print(f"error: not ready after {READY_TIMEOUT_S} s: the lines above say why", file=sys.stderr)
                return 1
            time.sleep(POLL_INTERVAL_S)
        name, process = next((name, process) for name, process in processes.items() if process.poll() is not None)
        print(f"error: the {name} has ended (exit code {process.returncode}): the lines above say why", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        stop_all(list(processes.values()))


def stop_all(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask all to end, and wait until they have."""
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_IGN)  # a second Ctrl-C changes nothing: they are ending
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def raise_interrupt(*_: object) -> None:
    """SIGTERM ends it like Ctrl-C."""
    raise KeyboardInterrupt


def is_taken(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def answers(url: str) -> bool:
    """Whether an address answers with success."""
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


if __name__ == "__main__":
    sys.exit(main())

"""`python -m frontend_streamlit`, which is what `make run` runs."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0
COMMAND = [sys.executable, "-m", "frontend_streamlit"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environment(tmp_path: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACKEND_", "FRONTEND_"))}
    ports = {"BACKEND_PORT": str(free_port()), "FRONTEND_PORT": str(free_port())}
    return kept | ports | {"BACKEND_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"} | settings


def children_of(process_id: int) -> list[int]:
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text(encoding="ascii")
    return [int(child) for child in text.split()]


def is_alive(process_id: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rsplit(") ", 1)[1][0] != "Z"
    return False


def wait_for(condition: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@contextmanager
def started(tmp_path: Path, settings: dict[str, str], *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The launcher and the file that its output goes to; whatever is left of it is ended."""
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=ROOT, env=settings, stdout=file, stderr=subprocess.STDOUT, text=True
        )
        left = []
        try:
            yield process, log
        finally:
            if process.poll() is None:
                left = children_of(process.pid)
                process.kill()
                process.wait()
            for child in left:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)


def is_ready(log: Path) -> bool:
    return "言絵 is ready: http://127.0.0.1:" in log.read_text(encoding="utf-8")


def test_both_come_up_the_url_is_told_and_ctrl_c_stops_both(tmp_path: Path) -> None:
    settings = environment(tmp_path)
    with started(tmp_path, settings, "--with-backend") as (process, log):
        wait_for(lambda: is_ready(log) or process.poll() is not None)
        page, backend = (f"http://127.0.0.1:{settings[name]}" for name in ("FRONTEND_PORT", "BACKEND_PORT"))
        assert page in log.read_text(encoding="utf-8")
        assert requests.get(page, timeout=5).ok
        assert requests.get(f"{backend}/readyz", timeout=5).ok
        children = children_of(process.pid)
        assert len(children) == 2
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # as an impatient user does
        assert process.wait(60) == 0
        assert not [child for child in children if is_alive(child)]
        assert "Traceback" not in log.read_text(encoding="utf-8")
    for port in (settings["FRONTEND_PORT"], settings["BACKEND_PORT"]):
        socket.create_server(("127.0.0.1", int(port))).close()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_they_start_stops_both(tmp_path: Path, stop: signal.Signals) -> None:
    with started(tmp_path, environment(tmp_path), "--with-backend") as (process, log):
        wait_for(lambda: len(children_of(process.pid)) == 2)
        children = children_of(process.pid)
        process.send_signal(stop)
        assert process.wait(60) == 0
        assert not [child for child in children if is_alive(child)]
        assert "Traceback" not in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("victim", [0, 1], ids=["backend", "page"])
def test_the_death_of_one_ends_the_other(tmp_path: Path, victim: int) -> None:
    with started(tmp_path, environment(tmp_path), "--with-backend") as (process, log):
        wait_for(lambda: len(children_of(process.pid)) == 2)
        children = children_of(process.pid)
        os.kill(children[victim], signal.SIGKILL)
        assert process.wait(60) == 1
        assert not [child for child in children if is_alive(child)]
        name = ("backend", "page")[victim]
        assert f"error: the {name} has ended (exit code -9)" in log.read_text(encoding="utf-8")


def test_a_backend_that_cant_start_is_told_and_ends_the_page(tmp_path: Path) -> None:
    settings = environment(tmp_path, BACKEND_MAX_QUEUED_JOBS="many")
    with started(tmp_path, settings, "--with-backend") as (process, log):
        assert process.wait(60) == 1
        told = log.read_text(encoding="utf-8")
        assert "error: BACKEND_MAX_QUEUED_JOBS is 'many'" in told
        assert "error: the backend has ended (exit code 2)" in told


@pytest.mark.parametrize("name", ["FRONTEND_PORT", "BACKEND_PORT"])
def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(environment(tmp_path, **{name: str(port)}), "--with-backend")
    assert done == (2, f"error: port {port} is taken: stop what uses it, or choose another with {name}=…\n")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("FRONTEND_PORT", "http", "'http': Input should be a valid integer"),
        ("FRONTEND_PORT", "70000", "'70000': Input should be less than or equal to 65535"),
        ("FRONTEND_TRANSLATOR", "deepl", "'deepl': Input should be 'auto', 'offline', 'google' or 'local'"),
        ("FRONTEND_LOGIN", "password", "'password': Input should be 'none', 'oidc' or 'iap'"),
        ("FRONTEND_GPU_VM", "my-gpu", "'my-gpu': Value error, FRONTEND_GPU_VM is 'my-gpu', not projects/"),
        ("FRONTEND_BACKEND_TOKEN", "secret\n", "set: Value error, a token is ASCII letters"),
        ("BACKEND_PORT", "0", "'0': Input should be greater than or equal to 1"),
    ],
)
def test_a_bad_setting_is_told_in_one_line(tmp_path: Path, name: str, value: str, told: str) -> None:
    code, line = run(environment(tmp_path, **{name: value}), "--with-backend")
    assert code == 2
    assert line.startswith(f"error: {name} is {told}")
    assert line.count("\n") == 1


def run(settings: dict[str, str], *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr

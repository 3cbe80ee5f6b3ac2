"""`python -m frontend_streamlit`, which is what `make run` runs."""

import fcntl
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
from pydantic import ValidationError

from backend_gpu import settings as backend_settings
from frontend_streamlit import __main__ as launcher
from frontend_streamlit.__main__ import Part, answers
from frontend_streamlit.settings import BackendSettings, Settings
from tests.loopback import serving

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0
COMMAND = [sys.executable, "-m", "frontend_streamlit"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environment(tmp_path: Path, **settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BACKEND_", "FRONTEND_"))}
    ports = {"BACKEND_PORT": str(free_port()), "FRONTEND_PORT": str(free_port())}
    return inherited | ports | {"BACKEND_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"} | settings


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
def started(
    tmp_path: Path, settings: dict[str, str], *arguments: str, command: list[str] = COMMAND
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The launcher and the file that its output goes to; whatever is left of it is ended."""
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [*command, *arguments], cwd=ROOT, env=settings, stdout=file, stderr=subprocess.STDOUT, text=True
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


def job_status(url: str, job_id: str) -> str:
    return str(requests.get(f"{url}/v1/jobs/{job_id}", timeout=10).json()["status"])


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends the children of a killed process")
def test_a_launcher_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    with started(tmp_path, environment(tmp_path), "--with-backend") as (process, _):
        wait_for(lambda: len(children_of(process.pid)) == 2)
        children = children_of(process.pid)
        process.kill()
        wait_for(lambda: not [child for child in children if is_alive(child)])


@pytest.mark.crash
def test_a_backend_that_is_killed_comes_back_and_draws_what_it_had_taken(tmp_path: Path) -> None:
    settings = environment(tmp_path)
    url = f"http://127.0.0.1:{settings['BACKEND_PORT']}"
    with started(tmp_path, settings, "--with-backend") as (process, log):
        wait_for(lambda: is_ready(log) or process.poll() is not None)
        backend, page = children_of(process.pid)
        jobs = [requests.post(f"{url}/v1/jobs", json={"prompt": "a red apple", "n": 4}, timeout=10) for _ in range(3)]
        assert [job.status_code for job in jobs] == [202] * 3
        os.kill(backend, signal.SIGKILL)
        wait_for(lambda: "the backend is ready again" in log.read_text(encoding="utf-8"))
        wait_for(lambda: all(job_status(url, job.json()["id"]) == "succeeded" for job in jobs), timeout_s=300)
        assert "the backend was killed (signal 9): it is started again in 1 s" in log.read_text(encoding="utf-8")
        assert process.poll() is None
        assert is_alive(page)
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.crash
def test_a_page_that_is_killed_comes_back(tmp_path: Path) -> None:
    settings = environment(tmp_path)
    with started(tmp_path, settings, "--with-backend") as (process, log):
        wait_for(lambda: is_ready(log) or process.poll() is not None)
        os.kill(children_of(process.pid)[1], signal.SIGKILL)
        wait_for(lambda: "the page is ready again" in log.read_text(encoding="utf-8"))
        assert requests.get(f"http://127.0.0.1:{settings['FRONTEND_PORT']}", timeout=5).ok
        process.terminate()
        assert process.wait(60) == 0


def part(code: str, url: str = "http://127.0.0.1:9") -> Part:
    return Part(name="backend", command=[sys.executable, "-c", code], url=url, ready_path="/")


def test_a_process_that_dies_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "FIRST_PAUSE_S", 0.01)
    dying = part("import os; os.kill(os.getpid(), 9)")
    assert launcher.run([dying], os.environ, threading.Event()) == 1
    *before, last = capsys.readouterr().err.splitlines()
    pauses = ["0.01", "0.02", "0.04", "0.08"]
    assert before == [f"the backend was killed (signal 9): it is started again in {pause} s" for pause in pauses]
    assert last.startswith("error: the backend was killed (signal 9): after 5 starts in 10 minutes it is not started")


class Healthy(BaseHTTPRequestHandler):
    """Says that all is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("code", "was_ready", "starts"), [(1, False, 1), (2, False, 1), (2, True, 5), (1, True, 5), (0, True, 5)]
)
def test_what_ends_by_itself_is_started_again_if_that_can_help(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
    was_ready: bool,
    starts: int,
) -> None:
    monkeypatch.setattr(launcher, "FIRST_PAUSE_S", 0.01)
    go = tmp_path / "go"
    ending = (
        f"import pathlib, sys, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\nsys.exit({code})"
    )
    with serving(Healthy) as url:
        process = part(ending, url if was_ready else "http://127.0.0.1:9")
        process.look_after(os.environ)
        process.look_after(os.environ)
        assert process.is_ready == was_ready
        go.touch()
        assert launcher.run([process], os.environ, threading.Event()) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == starts
    assert lines[-1].startswith(f"error: the backend has ended (exit code {code})")


@pytest.mark.crash
def test_nohup_keeps_it_running_when_the_terminal_goes(tmp_path: Path) -> None:
    ignored = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *COMMAND]
    with started(tmp_path, environment(tmp_path), "--with-backend", command=ignored) as (process, log):
        wait_for(lambda: is_ready(log) or process.poll() is not None)
        children = children_of(process.pid)
        for hung_up in (process.pid, *children):
            os.kill(hung_up, signal.SIGHUP)
        settled = time.monotonic() + 1  # what would end them has long begun
        wait_for(lambda: time.monotonic() > settled)
        assert process.poll() is None
        assert children_of(process.pid) == children
        assert all(map(is_alive, children))
        process.terminate()
        assert process.wait(60) == 0


@contextmanager
def made_on_a_terminal(tmp_path: Path, before: str) -> Iterator[tuple[list[int], Callable[[], None]]]:
    """`make run` leading a terminal's session, as in `ssh -t`: its processes, and what hangs the terminal up."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", f'{before} exec make run PYTHON="{sys.executable}"'],
        cwd=ROOT,
        env=environment(tmp_path),
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(end)
    alive: list[int] = []
    try:
        wait_for(lambda: [len(children_of(child)) for child in children_of(process.pid)] == [2])
        (launcher_id,) = children_of(process.pid)
        alive += [launcher_id, *children_of(launcher_id)]
        yield alive, partial(os.close, terminal)
    finally:
        for process_id in alive:
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGTERM)
        process.wait(60)


def test_a_terminal_that_hangs_up_ends_everything_though_make_alone_is_told(tmp_path: Path) -> None:
    with made_on_a_terminal(tmp_path, "") as (processes, hang_up):
        hang_up()
        wait_for(lambda: not any(map(is_alive, processes)))


@pytest.mark.crash
def test_make_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    with made_on_a_terminal(tmp_path, "trap '' HUP;") as (processes, hang_up):
        hang_up()
        settled = time.monotonic() + 2  # what would end them has long begun
        wait_for(lambda: time.monotonic() > settled)
        assert all(map(is_alive, processes))


HAS_IPV6 = Path("/proc/net/if_inet6").exists() and "00000000000000000000000000000001" in Path(
    "/proc/net/if_inet6"
).read_text(encoding="ascii")
NEEDS_IPV6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine's loopback has no IPv6 address")


@pytest.mark.parametrize(
    ("page_host", "backend_host", "page_at", "backend_at"),
    [
        pytest.param("::1", "[::1]", "[::1]", "[::1]", marks=NEEDS_IPV6),
        pytest.param("127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3", marks=pytest.mark.crash),
        pytest.param("LOCALHOST", "LocalHost", "localhost", "localhost", marks=pytest.mark.crash),
    ],
)
def test_checks_address_and_page_use_the_hosts_that_were_set(
    tmp_path: Path, page_host: str, backend_host: str, page_at: str, backend_at: str
) -> None:
    settings = environment(tmp_path, FRONTEND_HOST=page_host, BACKEND_HOST=backend_host, BACKEND_TOKEN="secret")
    page, backend = (
        f"http://{page_at}:{settings['FRONTEND_PORT']}",
        f"http://{backend_at}:{settings['BACKEND_PORT']}",
    )
    with started(tmp_path, settings, "--with-backend") as (process, log):
        wait_for(lambda: "is ready" in log.read_text(encoding="utf-8") or process.poll() is not None)
        assert f"言絵 is ready: {page}\n" in log.read_text(encoding="utf-8")
        assert requests.get(page, timeout=5).ok
        assert requests.get(f"{backend}/readyz", timeout=5).ok
        given = Path(f"/proc/{children_of(process.pid)[1]}/environ").read_bytes().split(b"\0")
        assert f"FRONTEND_BACKEND_URL={backend}".encode() in given
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("host", "address", "url"),
    [
        ("0.0.0.0", "0.0.0.0", "http://127.0.0.1:80"),
        ("0", "0.0.0.0", "http://127.0.0.1:80"),
        ("::", "::", "http://[::1]:80"),
        ("fd00::2", "fd00::2", "http://[fd00::2]:80"),
        ("fe80::1%eth0", "fe80::1%eth0", "http://[fe80::1%25eth0]:80"),
        ("kotoe.lan", "192.0.2.7", "http://kotoe.lan:80"),
        ("kotoe.lan", "fd00::2", "http://kotoe.lan:80"),
    ],
)
def test_a_wildcard_is_reached_on_loopback_and_all_else_as_it_was_set(host: str, address: str, url: str) -> None:
    assert launcher.url_of(host, address, 80) == url


@pytest.mark.parametrize(
    ("host", "bare"),
    [
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        (" FD00::2 ", "fd00::2"),
        ("FE80::1%Eth0", "fe80::1%Eth0"),
        ("Kotoe.LAN", "kotoe.lan"),
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("[::FFFF:0:0]", "0.0.0.0"),
    ],
)
def test_both_runtimes_read_a_host_alike(monkeypatch: pytest.MonkeyPatch, host: str, bare: str) -> None:
    monkeypatch.setenv("BACKEND_HOST", host)
    assert backend_settings.Settings().host == BackendSettings().host == bare


@pytest.mark.parametrize("prefix", ["FRONTEND", "BACKEND"])
@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("nowhere.invalid", "there is no such address or host name"),
        ("http://127.0.0.1", "there is no such address or host name"),
        ("127.0.0.1:8000", "there is no such address or host name"),
        ("a" * 64, "there is no such address or host name"),
        ("192.0.2.77", "this machine has no such address"),
        pytest.param("fe80::1", "this machine has no such address", marks=NEEDS_IPV6),
        ("::ffff:192.0.2.77", "this machine has no such address"),
    ],
)
def test_a_host_that_is_none_of_this_machine_is_told_at_once(
    tmp_path: Path, prefix: str, host: str, message: str
) -> None:
    done = run(environment(tmp_path, **{f"{prefix}_HOST": host}), "--with-backend")
    assert done == (2, f"error: {prefix}_HOST is {host.removeprefix('::ffff:')!r}: {message}\n")


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "latin-1"},
        pytest.param({"PYTHONIOENCODING": "ascii:strict"}, marks=pytest.mark.crash),
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.crash),
    ],
)
def test_what_the_locale_lacks_is_escaped(tmp_path: Path, locale: dict[str, str]) -> None:
    with started(tmp_path, environment(tmp_path, **locale), "--with-backend") as (process, log):
        wait_for(lambda: "is ready" in log.read_text(encoding="ascii") or process.poll() is not None)
        assert "\\u8a00\\u7d75 is ready: http://127.0.0.1:" in log.read_text(encoding="ascii")
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.crash
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&1 | true", ">/dev/full 2>&1"])
def test_streams_that_nobody_reads_stop_nothing(tmp_path: Path, closed: str) -> None:
    settings = environment(tmp_path)
    line = f'echo $$ > "{tmp_path}/id"; exec {shlex.join(COMMAND)} --with-backend'
    with started(tmp_path, settings, command=["sh", "-c", f"sh -c {shlex.quote(line)} {closed}"]) as (_, _log):
        wait_for((tmp_path / "id").exists)
        wait_for(lambda: answers(f"http://127.0.0.1:{settings['FRONTEND_PORT']}"))
        wait_for(lambda: answers(f"http://127.0.0.1:{settings['BACKEND_PORT']}/readyz"))
        process_id = int((tmp_path / "id").read_text(encoding="ascii"))
        children = children_of(process_id)
        assert len(children) == 2
        os.kill(process_id, signal.SIGTERM)
        wait_for(lambda: not [one for one in (process_id, *children) if is_alive(one)])


@pytest.mark.crash
def test_home_folders_are_the_same_for_backend_and_page(tmp_path: Path) -> None:
    home = tmp_path / "ホーム 1"
    home.mkdir()
    settings = environment(tmp_path, HOME=str(home), BACKEND_DATA_DIR="~/x")
    with started(tmp_path, settings, "--with-backend") as (process, log):
        wait_for(lambda: is_ready(log) or process.poll() is not None)
        given = Path(f"/proc/{children_of(process.pid)[1]}/environ").read_bytes().split(b"\0")
        assert f"FRONTEND_GALLERY={home / 'x' / 'gallery'}".encode() in given
        assert (home / "x" / "jobs.sqlite3").exists()
        process.terminate()
        assert process.wait(60) == 0


def test_a_backend_that_cant_start_is_told_and_ends_the_page(tmp_path: Path) -> None:
    settings = environment(tmp_path, BACKEND_MAX_QUEUED_JOBS="many")
    with started(tmp_path, settings, "--with-backend") as (process, log):
        assert process.wait(60) == 1
        message = log.read_text(encoding="utf-8")
        assert "error: BACKEND_MAX_QUEUED_JOBS is 'many'" in message
        assert "error: the backend has ended (exit code 2)" in message


@pytest.mark.parametrize("name", ["FRONTEND_PORT", "BACKEND_PORT"])
def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(environment(tmp_path, **{name: str(port)}), "--with-backend")
    assert done == (2, f"error: port {port} is taken: stop what uses it, or choose another with {name}=…\n")


@pytest.mark.parametrize(
    ("page_host", "backend_host"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.2", "0.0.0.0"), ("localhost", "127.0.0.1")],
)
def test_one_port_for_page_and_backend_is_told_before_anything_starts(
    tmp_path: Path, page_host: str, backend_host: str
) -> None:
    port = str(free_port())
    hosts = {"FRONTEND_HOST": page_host, "BACKEND_HOST": backend_host}
    code, message = run(environment(tmp_path, FRONTEND_PORT=port, BACKEND_PORT=port, **hosts), "--with-backend")
    assert code == 2
    assert message == (
        f"error: page and backend would both have port {port}: choose another with FRONTEND_PORT=… or BACKEND_PORT=…\n"
    )


@pytest.mark.parametrize(
    ("page_host", "backend_host"),
    [
        ("127.0.0.2", "127.0.0.3"),
        pytest.param("::", "0.0.0.0", marks=NEEDS_IPV6),
        pytest.param("::1", "127.0.0.1", marks=NEEDS_IPV6),
    ],
)
def test_one_port_at_two_addresses_is_well(page_host: str, backend_host: str) -> None:
    port = free_port()
    launcher.refuse_one_port_for_both(
        Settings(host=page_host, port=port), BackendSettings(host=backend_host, port=port)
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FRONTEND_PORT", "http", "'http': Input should be a valid integer"),
        ("FRONTEND_PORT", "70000", "'70000': Input should be less than or equal to 65535"),
        ("FRONTEND_TRANSLATOR", "deepl", "'deepl': Input should be 'auto', 'offline', 'google' or 'local'"),
        ("FRONTEND_LOGIN", "password", "'password': Input should be 'none', 'oidc' or 'iap'"),
        ("FRONTEND_GPU_VM", "my-gpu", "'my-gpu': Value error, FRONTEND_GPU_VM is 'my-gpu', not projects/"),
        ("FRONTEND_BACKEND_TOKEN", "secret\n", "set: Value error, a token is ASCII letters"),
        ("FRONTEND_BACKEND_URL", "localhost:8670", "'localhost:8670': Value error, an address is http:// or https://"),
        ("BACKEND_PORT", "0", "'0': Input should be greater than or equal to 1"),
    ],
)
def test_a_bad_setting_is_told_in_one_line(tmp_path: Path, name: str, value: str, message: str) -> None:
    code, line = run(environment(tmp_path, **{name: value}), "--with-backend")
    assert code == 2
    assert line.startswith(f"error: {name} is {message}")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "https://kotoe.example/backend/",
        "HTTP://言絵.example",
        "http://[::1]:8000",
        "http://[fe80::1%25eth0]:8000",
        "http://gpu_1:80",
    ],
)
def test_a_backend_may_be_at_any_web_address(url: str) -> None:
    assert Settings(backend_url=url).backend_url == url


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "kotoe.example",
        "ftp://kotoe.example",
        "http://",
        "http://:8000",
        "http:/kotoe.example",
        "http://kotoe.example:port",
        "http://kotoe.example:70000",
        "http://kotoe.example:0",
        "http://kotoe example",
        "http://kotoe.example\n",
        "http://[::1",
        "http://kotoe.example/?a=b",
        "http://kotoe.example/#a",
    ],
)
def test_what_is_no_web_address_is_refused_as_a_backend(url: str) -> None:
    with pytest.raises(ValidationError, match="an address is http:// or https://"):
        Settings(backend_url=url)


def run(settings: dict[str, str], *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr

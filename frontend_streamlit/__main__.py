"""Start the page: `python -m frontend_streamlit`; with `--with-backend` the backend too, as `make run` does."""

import argparse
import ctypes
import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests
from pydantic import ValidationError

from frontend_streamlit.settings import BackendSettings, Settings, environment_with, first_mistake
from frontend_streamlit.streams import open_streams, write_line

APP = Path(__file__).parent / "app.py"
READY_TIMEOUT_S = 600  # the published weights may have to be downloaded first
STOP_TIMEOUT_S = 40
POLL_INTERVAL_S = 0.2
MAX_STARTS, STARTS_WINDOW_S = 5, 600  # of a process that dies again and again
FIRST_PAUSE_S = 1.0  # before it is started again; each one is twice as long
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class CantStart(Exception):
    """A process can't do its work; the message says why, and what to change."""


@dataclass(kw_only=True)
class Part:
    """One process: started, and started again when it dies."""

    name: str
    command: list[str]
    url: str
    ready_path: str
    is_ready: bool = field(default=False, init=False)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _was_ready: bool = field(default=False, init=False)
    _started_at: list[float] = field(default_factory=list, init=False)  # lately
    _due_at: float = field(default=0.0, init=False)

    def look_after(self, environment: Mapping[str, str]) -> None:
        """Start it if that is due, see whether it is ready, and what to do if it has ended.

        Raises:
            CantStart: it has ended, and to start it again would not help.
        """
        if self.process is None:
            if time.monotonic() >= self._due_at:
                self._start(environment)
            return
        exit_code = self.process.poll()
        if exit_code is not None:
            self.process, self.is_ready = None, False
            self._start_later(exit_code)
        elif not self.is_ready and answers(self.url + self.ready_path):
            if self._was_ready:
                write_line(f"the {self.name} is ready again", sys.stderr)
            self.is_ready = self._was_ready = True

    def _start(self, environment: Mapping[str, str]) -> None:
        self._started_at.append(time.monotonic())
        self.process = subprocess.Popen(
            self.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # their messages go to stderr
            start_new_session=True,  # Ctrl-C reaches it through us, once
            preexec_fn=end_with_launcher if sys.platform == "linux" else None,
        )

    def _start_later(self, exit_code: int) -> None:
        how = f"has ended (exit code {exit_code})" if exit_code >= 0 else f"was killed (signal {-exit_code})"
        if exit_code >= 0 and not self._was_ready:  # what stopped it once, such as a taken port, may have gone
            raise CantStart(f"the {self.name} {how}: the lines above say why")
        now = time.monotonic()
        self._started_at = [started_at for started_at in self._started_at if now - started_at < STARTS_WINDOW_S]
        starts = len(self._started_at)
        if starts >= MAX_STARTS:
            often = f"after {starts} starts in {STARTS_WINDOW_S // 60} minutes it is not started again"
            raise CantStart(f"the {self.name} {how}: {often}; the lines above may say why")
        pause_s = FIRST_PAUSE_S * 2 ** max(0, starts - 1)
        write_line(f"the {self.name} {how}: it is started again in {pause_s:g} s", sys.stderr)
        self._due_at = now + pause_s


def main() -> int:
    """Run until Ctrl-C or SIGTERM, or until a process can't go on; what is wrong is said in one line."""
    open_streams()
    parser = argparse.ArgumentParser(prog="python -m frontend_streamlit", description=__doc__)
    parser.add_argument("--with-backend", action="store_true", help="start the backend as well, and wait for both")
    options = parser.parse_args()
    defaults = {}
    try:
        settings = Settings()
        parts = [page(settings)]
        if options.with_backend:
            backend_settings = BackendSettings()
            parts.insert(0, backend(backend_settings))
            refuse_one_port_for_both(settings, backend_settings)
            defaults = {
                "FRONTEND_BACKEND_URL": parts[0].url,
                "FRONTEND_BACKEND_TOKEN": backend_settings.token,
                "FRONTEND_GALLERY": backend_settings.gallery_root,
            }
    except ValidationError as error:
        write_line(f"error: {first_mistake(error)}", sys.stderr)
        return 2
    except CantStart as error:
        write_line(f"error: {error}", sys.stderr)
        return 2
    stopped = threading.Event()
    terminal = unheard_terminal()
    for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if stop is not signal.SIGHUP or signal.getsignal(stop) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(stop, lambda *_: stopped.set())
    utf8_paths = {"PYTHONUTF8": "1"}  # torch takes no others, whatever the locale says
    return run(parts, environment_with(defaults) | utf8_paths, stopped, terminal)


def page(settings: Settings) -> Part:
    """Streamlit, without questions, statistics and its developer's menu."""
    address = address_of(settings.host, settings.port, "FRONTEND")
    if "%" in address:
        raise CantStart(f"FRONTEND_HOST is {settings.host!r}, which no browser can open: choose one without a zone")
    options = {
        "server.port": settings.port,
        "server.address": address,  # of a name it would take IPv4 alone
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "logger.hideWelcomeMessage": "true",  # for a wildcard it would ask the internet for this machine's address
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return Part(
        name="page",
        command=[sys.executable, "-m", "streamlit", "run", str(APP), *flags],
        url=url_of(settings.host, address, settings.port),
        ready_path="/_stcore/health",
    )


def backend(settings: BackendSettings) -> Part:
    """The backend on this machine."""
    address = address_of(settings.host, settings.port, "BACKEND")
    return Part(
        name="backend",
        command=[sys.executable, "-m", "backend_gpu"],
        url=url_of(settings.host, address, settings.port),
        ready_path="/readyz",
    )


def address_of(host: str, port: int, prefix: str) -> str:
    """The IP address of a host that a process can listen on, IPv4 if it has both.

    Args:
        prefix: what the names of the settings of host and port begin with.

    Raises:
        CantStart: it has none, or the port can't be had there.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise CantStart(f"{prefix}_HOST is {host!r}: there is no such address or host name") from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] is not socket.AF_INET)
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(address)
        except OSError as error:
            reason = f"port {port} can't be used ({error.strerror}): choose another with {prefix}_PORT=…"
            if error.errno == errno.EADDRINUSE:
                reason = f"port {port} is taken: stop what uses it, or choose another with {prefix}_PORT=…"
            elif error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL):
                reason = f"{prefix}_HOST is {host!r}: this machine has no such address"
            raise CantStart(reason) from error
    return str(address[0])


def refuse_one_port_for_both(settings: Settings, backend_settings: BackendSettings) -> None:
    """See that page and backend don't want the same port: the second would fail, and the first answer for it.

    Raises:
        CantStart: they do.
    """
    if settings.port != backend_settings.port:
        return
    ours = ipaddress.ip_address(address_of(settings.host, settings.port, "FRONTEND"))
    theirs = ipaddress.ip_address(address_of(backend_settings.host, backend_settings.port, "BACKEND"))
    if ours.version == theirs.version and (ours == theirs or ours.is_unspecified or theirs.is_unspecified):
        raise CantStart(
            f"page and backend would both have port {settings.port}: choose another with FRONTEND_PORT=… "
            "or BACKEND_PORT=…"
        )


def url_of(host: str, address: str, port: int) -> str:
    """How this machine reaches what listens on a host with that address: loopback where it is a wildcard."""
    if ipaddress.ip_address(address).is_unspecified:
        host = "::1" if ":" in address else "127.0.0.1"
    return f"http://[{host.replace('%', '%25')}]:{port}" if ":" in host else f"http://{host}:{port}"


def unheard_terminal() -> int | None:
    """The terminal, as a file, if its hang-up may not reach us as SIGHUP; None: it does, or is not to end us.

    In `ssh -t host make run` make leads the session: it alone gets the signal, does not pass it on and waits for us.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN or os.getpgrp() != os.getsid(0):
        return None
    try:
        return os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return None


def has_hung_up(terminal: int) -> bool:
    """Whether a terminal has gone."""
    try:
        os.tcgetpgrp(terminal)
    except OSError:
        return True
    return False


def run(
    parts: list[Part], environment: Mapping[str, str], stopped: threading.Event, terminal: int | None = None
) -> int:
    """Start the processes in this order, say when all are ready, and keep them running; end all when one can't.

    Args:
        terminal: they end when it hangs up.
    """
    started_at, has_announced = time.monotonic(), False
    try:
        while True:
            for part in parts:
                part.look_after(environment)
            if not has_announced and all(part.is_ready for part in parts):
                has_announced = True
                write_line(f"\n  言絵 is ready: {parts[-1].url}\n  Ctrl-C stops it.\n")
            if not has_announced and time.monotonic() - started_at > READY_TIMEOUT_S:
                raise CantStart(f"not ready after {READY_TIMEOUT_S} s: the lines above say why")
            if stopped.wait(POLL_INTERVAL_S) or (terminal is not None and has_hung_up(terminal)):
                return 0
    except CantStart as error:
        write_line(f"error: {error}", sys.stderr)
        return 1
    finally:
        stop_all([part.process for part in parts if part.process is not None])


def end_with_launcher() -> None:
    """In a new process: let Linux end it if this one is killed and can't. Elsewhere it would be left."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


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

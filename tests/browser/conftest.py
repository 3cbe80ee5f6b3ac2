"""A real browser against the real page and the real backend with the mini model, each in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.loopback import free_ports

ROOT = Path(__file__).parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
START_TIMEOUT_S = 90.0
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Service:
    """Page and backend; either can be ended and started again."""

    data: Path
    ports: dict[str, int]
    settings: dict[str, str] = field(default_factory=dict)  # besides those that both always have
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['frontend_streamlit']}"

    @property
    def backend_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['backend_gpu']}"

    def start(self, package: str) -> None:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("BACKEND_", "FRONTEND_"))
        }
        settings = {
            "OMP_NUM_THREADS": "1",
            "BACKEND_PORT": str(self.ports["backend_gpu"]),
            "BACKEND_DATA_DIR": str(self.data),
            "FRONTEND_PORT": str(self.ports["frontend_streamlit"]),
            "FRONTEND_BACKEND_URL": self.backend_url,
            "FRONTEND_GALLERY": str(self.data / "gallery"),
        }
        with (self.data / f"{package}.log").open("ab") as log:
            self.processes[package] = subprocess.Popen(
                [sys.executable, "-m", package],
                cwd=ROOT,
                env=inherited | settings | self.settings,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self, package: str) -> None:
        path = {"backend_gpu": f"{self.backend_url}/readyz", "frontend_streamlit": f"{self.url}/_stcore/health"}[
            package
        ]
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            log = (self.data / f"{package}.log").read_text(encoding="utf-8")
            assert self.processes[package].poll() is None, log
            assert time.monotonic() < deadline, log
            try:
                if requests.get(path, timeout=2).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.2)

    def end(self, package: str, how: signal.Signals) -> None:
        self.processes[package].send_signal(how)
        self.processes[package].wait(45)


def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("the page is tested in Chromium, which is missing: apt install chromium fonts-noto-cjk")
    return path


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    both = Service(tmp_path_factory.mktemp("service"), free_ports("backend_gpu", "frontend_streamlit"))
    for package in both.ports:
        both.start(package)
    try:
        for package in both.ports:
            both.wait(package)
        yield both
    finally:
        for package in both.ports:
            both.end(package, signal.SIGTERM)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)
    SCREENSHOTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield opened
        opened.close()


def settle(page: Page) -> None:
    """Wait until the page knows what the browser keeps, and has drawn it."""
    expect(page.get_by_role("heading", name="言絵")).to_be_visible()
    page.wait_for_function("localStorage.length > 0")
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Callable[..., Page]]:
    """Open the page as somebody new, or by a link; on a phone if so told."""
    contexts = []

    def open_page(link: str = "", *, width: int = 1000, height: int = 1200) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, locale="ja-JP")
        contexts.append(context)
        page = context.new_page()
        page.goto(link or service.url)
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()

"""What the page costs: `python -m tests.benchmarks.page` opens it in Chromium and prints a table.

The backend is a fake one that answers at once and counts: nothing is drawn, all the work is the page's.
"""

import argparse
import base64
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from frontend_streamlit.texts.japanese import JAPANESE
from tests.benchmarks.bench import machine
from tests.browser.conftest import FLAGS, ROOT, chromium
from tests.frontend_streamlit.fake_backend import FakeBackend, job_document, serve
from tests.loopback import free_ports

OWNER = "b" * 32
STEPS = 50


@dataclass(frozen=True)
class Rates:
    """Of one visit, per second."""

    requests: float  # to the backend
    messages: float  # of the websocket, both ways
    kilobytes: float  # in them
    processor_s: float  # of the page's process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement of rates")
    parser.add_argument("--visits", type=int, default=9, help="fresh sessions whose first paint is timed")
    parser.add_argument("--out", type=Path, default=Path("out/benchmark-page.md"), help="where the table goes too")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with serve(FakeBackend()) as backend, started_page(backend) as (url, process_id), opened_browser() as browser:
        table = "\n".join(measure(options, backend, url, process_id, browser))
    print(table)
    options.out.write_text(table + "\n", encoding="utf-8")


def measure(
    options: argparse.Namespace, backend: FakeBackend, url: str, process_id: int, browser: Browser
) -> Iterator[str]:
    """The table, line by line."""
    yield f"`python -m tests.benchmarks.page --seconds {options.seconds:g} --visits {options.visits}` on {machine()}"
    yield ""
    yield "| page | requests/s to the backend | websocket messages/s | kB/s | processor s/s |"
    yield "| --- | --- | --- | --- | --- |"
    running = job_document(1, "running", request={"owner": OWNER}, preview=preview())
    for name, jobs in (("idle", []), ("one job runs", [running])):
        backend.jobs = jobs
        context = browser.new_context()
        page = opened(context, f"{url}/?u={OWNER}")
        rates = rates_of(page, options.seconds, backend, process_id)
        numbers = f"{rates.requests:.2f} | {rates.messages:.2f} | {rates.kilobytes:.1f} | {rates.processor_s:.3f}"
        yield f"| {name} | {numbers} |"
        context.close()
    backend.jobs = []
    paints = []
    for _ in range(options.visits):
        context = browser.new_context()
        started_at = time.perf_counter()
        opened(context, url)
        paints.append(time.perf_counter() - started_at)
        context.close()
    yield ""
    yield f"First paint of a fresh session, no cache: {statistics.median(paints):.2f} s, at most {max(paints):.2f} s."


def opened(context: BrowserContext, url: str) -> Page:
    """The page, once its button can be pressed."""
    page = context.new_page()
    page.goto(url)
    page.get_by_role("button", name=JAPANESE.draw, exact=True).last.wait_for()
    return page


def rates_of(page: Page, seconds: float, backend: FakeBackend, process_id: int) -> Rates:
    """Count what goes by while nobody touches the page."""
    page.get_by_text(JAPANESE.private_link).wait_for()
    page.wait_for_timeout(2000)  # the first run is through
    sizes: list[int] = []
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    for event in ("Network.webSocketFrameReceived", "Network.webSocketFrameSent"):
        network.on(event, lambda frame: sizes.append(len(frame["response"]["payloadData"]) * 3 // 4))  # base64
    asked, used_s = len(backend.requests), processor_s(process_id)
    ends_at = time.monotonic() + seconds
    step = 0
    while time.monotonic() < ends_at:
        step += 1
        for job in backend.jobs:
            done = step % STEPS
            job["progress"] = {"stage": "base", "step": done, "total_steps": STEPS, "fraction": done / STEPS}
            job["preview"] = preview(step)
        page.wait_for_timeout(250)
    return Rates(
        requests=(len(backend.requests) - asked) / seconds,
        messages=len(sizes) / seconds,
        kilobytes=sum(sizes) / seconds / 1000,
        processor_s=(processor_s(process_id) - used_s) / seconds,
    )


def preview(seed: int = 0) -> str:
    """A picture of noise: no preview is larger."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def processor_s(process_id: int) -> float:
    """Time that a process and its children have computed."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text(encoding="ascii").split()
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rsplit(") ", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_s(int(child)) for child in children)


@contextmanager
def started_page(backend: FakeBackend) -> Iterator[tuple[str, int]]:
    """The page's address and process."""
    [port] = free_ports("page").values()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"FRONTEND_PORT": str(port), "FRONTEND_BACKEND_URL": backend.url, "FRONTEND_GALLERY": folder}
        process = subprocess.Popen(
            [sys.executable, "-m", "frontend_streamlit"],
            cwd=ROOT,
            env=dict(os.environ) | settings,
            stdout=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            while not answers(f"{url}/_stcore/health"):
                if process.poll() is not None:
                    sys.exit(f"the page has ended with {process.returncode}")
                time.sleep(0.1)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


@contextmanager
def opened_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


if __name__ == "__main__":
    main()

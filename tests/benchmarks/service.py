"""What the service costs: `python -m tests.benchmarks.service` starts it with the mini model and prints tables.

Clients and service share the machine, so latencies and rates are what one machine does for both.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from backend_gpu.settings import let_waiting_threads_sleep
from tests.backend_gpu.api.running_service import running_service as served
from tests.benchmarks.bench import machine

CLIENTS = 50
STARTS = 3
ROUNDS = 2  # of the measurements with batches and without
WARM_UP_JOBS = 10  # then the expected times are to be right
WAVE = ((1, 20), (3, 20), (2, 10), (4, 30))  # pictures and steps of jobs that come at once: some run, others wait
SUBMISSION = {"prompt": "a red apple on a blue background", "seed": 1}
SETTINGS = {
    "BACKEND_PORT": "0",
    "BACKEND_MAX_QUEUED_JOBS": "10000",
    "BACKEND_MAX_JOBS_PER_OWNER": "10000",
    "BACKEND_QUOTA_PICTURES": "1000000",
}


@dataclass(frozen=True)
class Service:
    """A service that was started for a measurement."""

    client: httpx.Client
    started_at: float
    health_s: float  # from the start of the process to /healthz
    ready_s: float  # and to /readyz

    def submit(self, **fields: object) -> str:
        """The id of a new job."""
        answer = self.client.post("/v1/jobs", json=SUBMISSION | fields)
        return str(answer.raise_for_status().json()["id"])

    def wait_for(self, job_id: str) -> dict[str, Any]:
        """Follow a job to its end."""
        with self.client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
            *_, last = (line for line in stream.iter_lines() if line.startswith("data: "))
        job: dict[str, Any] = json.loads(last.removeprefix("data: "))
        assert job["status"] == "succeeded", job
        return job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement of latency")
    parser.add_argument("--pictures", type=int, default=40, help="drawn one by one for the service's overhead")
    parser.add_argument("--eta-jobs", type=int, default=20, help="whose expected time is compared with the real one")
    parser.add_argument("--out", type=Path, default=Path("out/benchmark-service.md"), help="where the tables go too")
    options = parser.parse_args()
    let_waiting_threads_sleep()  # as the service does: the pipeline alone must not compute otherwise
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for line in tables(options):
        print(line, flush=True)
        lines.append(line)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def tables(options: argparse.Namespace) -> Iterator[str]:
    """All tables, line by line."""
    yield " ".join(["`python -m tests.benchmarks.service", *sys.argv[1:]]) + "`"
    yield machine()
    yield from start_table()
    yield from latency_table(options.seconds)
    yield from throughput_table()
    yield from overhead_table(options.pictures)
    yield from eta_table(options.eta_jobs)


@contextmanager
def running_service(settings: dict[str, str]) -> Iterator[Service]:
    """The real thing in a process of its own, on an empty data folder, until the block ends."""
    with tempfile.TemporaryDirectory() as folder, httpx.Client(timeout=600) as client:
        started_at = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "backend_gpu"],
            env=os.environ | SETTINGS | settings | {"BACKEND_DATA_DIR": folder},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            client.base_url = next(json.loads(line)["address"] for line in process.stderr if '"listening"' in line)
            threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the service
            health_s, ready_s = (answered_at(client, name) - started_at for name in ("/healthz", "/readyz"))
            yield Service(client, started_at, health_s, ready_s)
        finally:
            process.terminate()
            process.wait(60)


def answered_at(client: httpx.Client, path: str) -> float:
    """When it answered with success; asked seldom enough not to slow the start down."""
    while not client.get(path).is_success:
        time.sleep(0.05)
    return time.monotonic()


def start_table() -> Iterator[str]:
    """How long a caller waits for a service that is just being started."""
    times = []
    for _ in range(STARTS):
        with running_service({}) as service:
            service.wait_for(service.submit())
            times.append((service.health_s, service.ready_s, time.monotonic() - service.started_at))
    yield from (
        "",
        f"### from the start of the process, median of {STARTS}",
        "| /healthz | /readyz | first 256x256 picture, default steps |",
    )
    cells = " | ".join(f"{statistics.median(column):.2f} s" for column in zip(*times, strict=True))
    yield from ("| --- | --- | --- |", f"| {cells} |")


def latency_table(seconds: float) -> Iterator[str]:
    """Submits and polls of many clients at once, while the worker draws."""

    async def measure(service: Service) -> tuple[list[float], list[float], float]:
        connections = aiohttp.TCPConnector(limit=CLIENTS)  # of httpx, 50 of them keep a core busy with themselves
        url = str(service.client.base_url)
        async with aiohttp.ClientSession(url, connector=connections, raise_for_status=True) as client:
            submits, ids = [], []

            async def submit(number: int) -> None:
                started_at = time.perf_counter()
                async with client.post(
                    "/v1/jobs", json=SUBMISSION | {"owner": f"owner{number}", "steps": 250}
                ) as answer:
                    ids.append((await answer.json())["id"])
                submits.append(time.perf_counter() - started_at)

            await asyncio.gather(*(submit(number) for number in range(CLIENTS) for _ in range(2)))
            polls: list[float] = []
            ends_at = time.perf_counter() + seconds

            async def poll(job_id: str) -> None:
                while (started_at := time.perf_counter()) < ends_at:
                    async with client.get(f"/v1/jobs/{job_id}") as answer:
                        await answer.read()
                    polls.append(time.perf_counter() - started_at)

            await asyncio.gather(*(poll(job_id) for job_id in ids[:CLIENTS]))
            for job_id in ids:
                await client.post(f"/v1/jobs/{job_id}/cancel")
            return submits, polls, len(polls) / seconds

    with running_service({}) as service:
        submits, polls, rate = asyncio.run(measure(service))
    yield from (
        "",
        f"### {CLIENTS} clients at once while a job runs",
        "| call | n | p50 | p99 |",
        "| --- | --- | --- | --- |",
    )
    for name, times in (("submit", submits), ("poll", polls)):
        yield f"| {name} | {len(times)} | {percentile(times, 50):.0f} ms | {percentile(times, 99):.0f} ms |"
    yield f"\n{rate:.0f} polls per second, {len(submits)} jobs in the queue."


def percentile(seconds: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    return 1000 * statistics.quantiles(seconds, n=100)[percent - 1]


def throughput_table() -> Iterator[str]:
    """How long 32 jobs of one picture take, one by one and together; they take turns."""
    seconds: dict[int, list[float]] = {1: [], 8: []}
    for _ in range(ROUNDS):
        for size, times in seconds.items():
            with running_service({"BACKEND_MAX_BATCH_PICTURES": str(size)}) as service:
                begun_at = time.perf_counter()
                for job_id in [service.submit() for _ in range(32)]:
                    service.wait_for(job_id)
                times.append(time.perf_counter() - begun_at)
    yield from (
        "",
        f"### 32 jobs of one picture, median of {ROUNDS}",
        "| pictures in a batch | seconds | pictures per second |",
        "| --- | --- | --- |",
    )
    for size, times in seconds.items():
        median = statistics.median(times)
        yield f"| {size} | {median:.1f} | {32 / median:.2f} |"
    ratio = statistics.median(alone / together for alone, together in zip(*seconds.values(), strict=True))
    yield f"\nBatches draw {ratio:.2f} times as many pictures per second."


def overhead_table(count: int) -> Iterator[str]:
    """One picture through the queue, and straight from the same engine; they take turns.

    Service and engine are in this process: the same pictures take two processes quite different times, for as long as
    each lives.
    """
    from backend_gpu.engine import finished
    from backend_gpu.engine.mini import open_engine
    from backend_gpu.jobs.request import JobRequest
    from backend_gpu.settings import Settings

    engine = open_engine(Settings(model="mini"))
    straight, queued, drawing = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), open_engine=lambda: engine, quota_pictures=1_000_000) as running,
    ):
        answered_at(running.http, "/readyz")
        service = Service(running.http, started_at=0.0, health_s=0.0, ready_s=0.0)
        for _ in range(count + 2):
            begun_at = time.perf_counter()
            job = service.wait_for(service.submit())
            queued.append(time.perf_counter() - begun_at)
            drawing.append(job["finished_at"] - job["created_at"])
            request = JobRequest(**job["request"])
            begun_at = time.perf_counter()
            finished(engine.generate(request.drawings(), request.batch_settings(engine.info)))
            straight.append(time.perf_counter() - begun_at)
    medians = [statistics.median(times[2:]) for times in (straight, drawing, queued)]
    overheads = [ours - own for ours, own in zip(drawing[2:], straight[2:], strict=True)]
    share = statistics.median(overhead / own for overhead, own in zip(overheads, straight[2:], strict=True))
    yield from (
        "",
        f"### one picture, median of {count}",
        "| pipeline alone | from accepted to kept | as a client sees it |",
    )
    yield from ("| --- | --- | --- |", f"| {' | '.join(f'{seconds:.3f} s' for seconds in medians)} |", "")
    yield (
        f"The service adds {statistics.median(overheads) * 1000:.0f} ms, {share:.1%} of the pipeline alone "
        "(PNG encoding, durable writes and a follower of the events included)."
    )


def eta_table(count: int) -> Iterator[str]:
    """How wrong the expected time is that a job tells right after it was accepted, others before it or not."""
    errors: list[float] = []
    with running_service({}) as service:
        for number in range(WARM_UP_JOBS):
            n, steps = WAVE[number % len(WAVE)]
            service.wait_for(service.submit(n=n, steps=steps))
        while len(errors) < count:
            told = []
            for job_id in [service.submit(n=n, steps=steps) for n, steps in WAVE]:
                eta_s = service.client.get(f"/v1/jobs/{job_id}").json()["eta_seconds"]
                told.append((job_id, time.time(), eta_s))
            for job_id, asked_at, eta_s in told:
                real_s = service.wait_for(job_id)["finished_at"] - asked_at
                errors.append(abs(eta_s - real_s) / real_s)
    yield from (
        "",
        f"### error of the expected time, {len(errors)} jobs after the first {WARM_UP_JOBS}, pictures and steps mixed",
        "| median | worst |",
        "| --- | --- |",
        f"| {statistics.median(errors):.0%} | {max(errors):.0%} |",
    )


if __name__ == "__main__":
    main()

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

import httpx

from tests.benchmarks.bench import machine

CLIENTS = 50
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

    url: str
    health_s: float  # from the start of the process to /healthz
    ready_s: float  # and to /readyz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement of latency")
    parser.add_argument("--pictures", type=int, default=12, help="drawn one by one for the service's overhead")
    parser.add_argument("--out", type=Path, default=Path("out/benchmark-service.md"), help="where the tables go too")
    options = parser.parse_args()
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
    with running_service({}) as service:
        yield from ("", "### from the start of the process", "| /healthz | /readyz |", "| --- | --- |")
        yield f"| {service.health_s:.2f} s | {service.ready_s:.2f} s |"
        yield from latency_table(service, options.seconds)
    yield from throughput_table()
    yield from overhead_table(options.pictures)


@contextmanager
def running_service(settings: dict[str, str]) -> Iterator[Service]:
    """The real thing in a process of its own, on an empty data folder, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        started_at = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "backend_gpu"],
            env=os.environ | SETTINGS | settings | {"BACKEND_DATA_DIR": folder},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            url = next(json.loads(line)["address"] for line in process.stderr if '"listening"' in line)
            threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the service
            health_s, ready_s = (wait_for(f"{url}/{name}") - started_at for name in ("healthz", "readyz"))
            yield Service(url, health_s, ready_s)
        finally:
            process.terminate()
            process.wait(60)


def wait_for(url: str) -> float:
    """When it answered with success."""
    while True:
        try:
            if httpx.get(url).is_success:
                return time.monotonic()
        except httpx.TransportError:
            pass
        time.sleep(0.01)


def latency_table(service: Service, seconds: float) -> Iterator[str]:
    """Submits and polls of many clients at once, while the worker draws."""

    async def measure() -> tuple[list[float], list[float], float]:
        limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
            submits, ids = [], []

            async def submit(number: int) -> None:
                started_at = time.perf_counter()
                answer = await client.post("/v1/jobs", json=SUBMISSION | {"owner": f"owner{number}", "steps": 250})
                submits.append(time.perf_counter() - started_at)
                ids.append(answer.json()["id"])

            await asyncio.gather(*(submit(number) for number in range(CLIENTS) for _ in range(2)))
            polls: list[float] = []
            ends_at = time.perf_counter() + seconds

            async def poll(job_id: str) -> None:
                while (started_at := time.perf_counter()) < ends_at:
                    (await client.get(f"/v1/jobs/{job_id}")).raise_for_status()
                    polls.append(time.perf_counter() - started_at)

            await asyncio.gather(*(poll(job_id) for job_id in ids[:CLIENTS]))
            for job_id in ids:
                await client.post(f"/v1/jobs/{job_id}/cancel")
            return submits, polls, len(polls) / seconds

    submits, polls, rate = asyncio.run(measure())
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
    """How long 32 jobs of one picture take, together and one by one."""
    yield from (
        "",
        "### 32 jobs of one picture",
        "| pictures in a batch | seconds | pictures per second |",
        "| --- | --- | --- |",
    )
    for size in (1, 8, 1, 8):
        with running_service({"BACKEND_MAX_BATCH_PICTURES": str(size)}) as service, httpx.Client(timeout=600) as client:
            started_at = time.perf_counter()
            ids = [client.post(f"{service.url}/v1/jobs", json=SUBMISSION).json()["id"] for _ in range(32)]
            for job_id in ids:
                wait_for_job(client, service, job_id)
            seconds = time.perf_counter() - started_at
        yield f"| {size} | {seconds:.1f} | {32 / seconds:.2f} |"


def wait_for_job(client: httpx.Client, service: Service, job_id: str) -> dict[str, Any]:
    """Follow a job to its end."""
    with client.stream("GET", f"{service.url}/v1/jobs/{job_id}/events") as stream:
        *_, last = (line for line in stream.iter_lines() if line.startswith("data: "))
    job: dict[str, Any] = json.loads(last.removeprefix("data: "))
    assert job["status"] == "succeeded", job
    return job


def overhead_table(count: int) -> Iterator[str]:
    """One picture through the queue, and straight from the pipeline in this process; they take turns."""
    from backend_gpu.engine.local import open_engine
    from backend_gpu.jobs.job import JobRequest

    engine = open_engine("mini", "auto", Path("data/models"))
    straight, queued, drawing = [], [], []
    with running_service({}) as service, httpx.Client(timeout=600) as client:
        request: JobRequest | None = None
        for _ in range(count + 2):
            started_at = time.perf_counter()
            job_id = client.post(f"{service.url}/v1/jobs", json=SUBMISSION).json()["id"]
            job = wait_for_job(client, service, job_id)
            queued.append(time.perf_counter() - started_at)
            request = JobRequest(**job["request"])
            drawing.append(job["finished_at"] - job["created_at"])
            started_at = time.perf_counter()
            engine.generate(request.drawings(), request.batch_settings(), lambda _: None)
            straight.append(time.perf_counter() - started_at)
    medians = [statistics.median(times[2:]) for times in (straight, drawing, queued)]
    overhead = statistics.median(ours / own - 1 for ours, own in zip(drawing[2:], straight[2:], strict=True))
    yield from (
        "",
        f"### one picture, median of {count}",
        "| pipeline alone | from accepted to kept | as a client sees it |",
    )
    yield from ("| --- | --- | --- |", f"| {' | '.join(f'{seconds:.3f} s' for seconds in medians)} |", "")
    yield f"The service adds {overhead:.1%} to the pipeline alone (PNG encoding and durable writes included)."


if __name__ == "__main__":
    main()

"""What the service tells of itself: health, status, metrics, logs."""

import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backend_gpu import logs
from tests.backend_gpu.api.running_service import RunningService, Serve
from tests.backend_gpu.fake_engine import FakeEngine
from tests.backend_gpu.waiting import wait_until

SECRET = "a purple secret elephant"
SOURCE = "紫の秘密の象"


def metrics_of(running: RunningService) -> dict[str, float]:
    """Every sample, as `name{label="value"}`."""
    answer = running.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def test_health_and_readiness_are_ok_once_the_model_draws(shared: RunningService) -> None:
    for path in ("/healthz", "/readyz"):
        answer = shared.http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_status_tells_what_the_service_does(serve: Serve) -> None:
    with serve(engine=FakeEngine(step_s=0.001)) as running:
        idle = running.http.get("/v1/status").json()
        running.wait_for(running.submit()["id"])
        running.engine.hold()
        job = running.submit(steps=1)
        running.wait_for(job["id"], "running")
        running.submit(steps=2)
        running.submit(steps=3)
        busy = running.http.get("/v1/status").json()
    assert set(idle) >= {
        *("model", "device", "ready", "load_error", "queued_jobs", "running_jobs", "idle_seconds"),
        "seconds_per_picture",
    }
    assert (idle["model"], idle["device"], idle["ready"], idle["load_error"]) == ("kotoe-mini", "cpu", True, None)
    assert (idle["queued_jobs"], idle["running_jobs"], idle["seconds_per_picture"]) == (0, 0, None)
    assert idle["idle_seconds"] > 0
    assert (busy["queued_jobs"], busy["running_jobs"], busy["idle_seconds"]) == (2, 1, 0)
    assert busy["seconds_per_picture"] > 0.01


def test_idle_seconds_count_from_the_last_work(serve: Serve) -> None:
    with serve() as running:
        running.wait_for(running.submit()["id"])
        wait_until(lambda: running.http.get("/v1/status").json()["idle_seconds"] > 0.2)
        submitted_at = time.monotonic()
        running.wait_for(running.submit()["id"])
        assert running.http.get("/v1/status").json()["idle_seconds"] <= time.monotonic() - submitted_at


def test_metrics_count_jobs_pictures_and_time(serve: Serve) -> None:
    with serve() as running:
        running.wait_for(running.submit(n=3)["id"])
        running.engine.failure = RuntimeError("broken")
        running.wait_for(running.submit()["id"])
        running.engine.hold()
        held = running.submit()
        running.wait_for(held["id"], "running")
        cancelled = running.submit(steps=3)
        running.http.post(f"/v1/jobs/{cancelled['id']}/cancel")
        running.submit(steps=4)
        metrics = metrics_of(running)
    assert metrics['kotoe_jobs_total{outcome="succeeded"}'] == 1
    assert metrics['kotoe_jobs_total{outcome="failed"}'] == 1
    assert metrics['kotoe_jobs_total{outcome="cancelled"}'] == 1
    assert metrics["kotoe_pictures_total"] == 3
    assert metrics["kotoe_queued_jobs"] == 1
    assert metrics["kotoe_running_jobs"] == 1
    assert metrics["kotoe_model_load_seconds"] > 0
    for stage, steps in {"base": 10, "upsample": 4}.items():
        assert metrics[f'kotoe_step_seconds_count{{stage="{stage}"}}'] == steps
        assert metrics[f'kotoe_stage_seconds_count{{stage="{stage}"}}'] == 1
    assert metrics['kotoe_stage_seconds_count{stage="finish"}'] == 1


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Everything that the service logs, as a collector gets it."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logs.log_handler(stream), root.level
    monkeypatch.setattr(logging.getLogger("httpx"), "disabled", True)  # of the test's own client
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.setLevel(level)
    root.removeHandler(handler)


def lines_of(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_line_of_the_log_is_json_as_cloud_logging_reads_it(serve: Serve, log: io.StringIO) -> None:
    with serve() as running:
        running.wait_for(running.submit()["id"])
        running.engine.failure = RuntimeError("broken")
        running.wait_for(running.submit()["id"])
    lines = lines_of(log)
    for line in lines:
        assert {"severity", "message", "logger", "time"} <= set(line)
        assert line["severity"] in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
        assert line["time"].endswith("+00:00")
    failed = [line for line in lines if line["severity"] == "ERROR"]
    assert [line["message"] for line in failed] == ["the engine failed", "job failed"]
    assert (failed[0]["job_ids"], failed[0]["request_ids"]) == ([failed[1]["job_id"]], [failed[1]["request_id"]])
    assert "RuntimeError: broken" in failed[0]["exc_info"]


def test_every_event_of_a_job_is_one_line_with_its_ids(serve: Serve, log: io.StringIO) -> None:
    with serve() as running:
        answer = running.http.post("/v1/jobs", json={"prompt": "a red apple"}, headers={"x-request-id": "request-1"})
        job_id = answer.json()["id"]
        running.wait_for(job_id)
    lines = [line for line in lines_of(log) if line.get("job_id") == job_id]
    events = [line["message"] for line in lines if line["message"] != "request"]
    assert events == ["job accepted", "job started", "job succeeded"]
    assert {line["request_id"] for line in lines if line["message"] != "request"} == {"request-1"}
    (submitted,) = [line for line in lines_of(log) if line.get("request_id") == "request-1" and "route" in line]
    assert (submitted["method"], submitted["route"], submitted["status"]) == ("POST", "/v1/jobs", 202)
    assert submitted["milliseconds"] > 0
    polled = [line for line in lines if line["message"] == "request"]
    assert {line["route"] for line in polled} == {"/v1/jobs/{job_id}"}
    assert len({line["request_id"] for line in polled}) == len(polled)


def test_a_restart_does_not_part_a_job_from_its_request(serve: Serve, log: io.StringIO) -> None:
    with serve() as running:
        running.worker.slots.stopping.set()  # it draws nothing any more
        answer = running.http.post("/v1/jobs", json={"prompt": "a red apple"}, headers={"x-request-id": "request-1"})
        job_id = answer.json()["id"]
    with serve() as running:
        running.wait_for(job_id)
    (succeeded,) = [line for line in lines_of(log) if line["message"] == "job succeeded"]
    assert (succeeded["job_id"], succeeded["request_id"]) == (job_id, "request-1")


def test_no_user_text_is_logged_whatever_happens(serve: Serve, log: io.StringIO) -> None:
    texts = {"prompt": SECRET, "source_prompt": SOURCE, "negative_prompt": f"no {SECRET}"}
    with serve(quota_pictures=3) as running:
        running.wait_for(running.submit(**texts)["id"])
        running.engine.failure = RuntimeError("broken")
        running.wait_for(running.submit(**texts)["id"])
        running.http.post("/v1/images/generations", json=texts | {"user": SECRET})
        for _ in range(3):
            running.http.post("/v1/jobs", json=texts)
        running.http.post("/v1/jobs", json=texts | {"n": SECRET, SECRET: 1})
        running.http.post("/v1/jobs", json={"prompt": SOURCE})
        running.http.post("/v1/jobs", json={"prompt": f"{SECRET} " * 20})
        running.http.get(f"/v1/jobs/{SECRET}?owner={SECRET}")
        running.http.get(f"/{SECRET}")
    assert len(lines_of(log)) > 10
    for word in (*SECRET.split()[1:], SOURCE):
        assert word not in log.getvalue()


def test_probes_do_not_fill_the_log(shared: RunningService, log: io.StringIO) -> None:
    shared.http.get("/healthz")
    shared.http.get("/readyz")
    assert lines_of(log) == []


def test_on_a_terminal_a_line_is_plain_with_its_ids(log: io.StringIO) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    handler = logs.log_handler(stream)
    handler.handle(logging.makeLogRecord({"msg": "job started", "levelname": "INFO", "job_id": "17"}))
    assert stream.getvalue().endswith(" INFO    job started job_id=17\n")
    assert log.getvalue() == ""

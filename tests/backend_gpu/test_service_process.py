"""The service as a process: start, work with the mini model, stop, start again, and all that keeps it from starting."""

import io
import json
import re
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import PngImagePlugin

from backend_gpu.settings import Settings
from tests.backend_gpu.service_process import ServiceProcess, run_backend
from tests.backend_gpu.waiting import WAIT_S, wait_until

APPLE = {
    "prompt": "a red apple on a blue background",
    "source_prompt": "青い背景に赤いりんご",
    "translator": "offline",
    "negative_prompt": "a dog",
    "seed": 4294967295,
    "n": 2,
    "steps": 8,
}
SHORT = {"steps": 30, "upscale": False, "seed": 5}
LONG = SHORT | {"steps": 100}  # seconds on any machine: it still runs when the service is told to stop


@dataclass
class Story:
    """What happened in two lives of one service."""

    early: list[Any] = field(default_factory=list)  # answers while the model was loading
    apple: dict[str, Any] = field(default_factory=dict)
    pictures: list[bytes] = field(default_factory=list)
    pictures_after_restart: list[bytes] = field(default_factory=list)
    too_long: Any = None
    second_service: subprocess.CompletedProcess[str] | None = None
    same_port: subprocess.CompletedProcess[str] | None = None
    exit_codes: list[int] = field(default_factory=list)
    long_job: str = ""
    long_job_followed: list[str] = field(default_factory=list)  # its states, until the stream ended
    long_job_after_restart: dict[str, Any] = field(default_factory=dict)
    long_picture: bytes = b""
    long_picture_undisturbed: bytes = b""
    last_job_followed: list[str] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)


def stop_followed(service: ServiceProcess, story: Story, seen: list[str], job_id: str) -> None:
    """Stop the service while somebody follows a job, whose states are noted until the stream ends in good order."""

    def read() -> None:
        with service.http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            lines = (line.removeprefix("data:") for line in answer.iter_lines() if line.startswith("data:"))
            seen.extend(json.loads(line)["status"] for line in lines)

    follower = threading.Thread(target=read)
    follower.start()
    wait_until(lambda: seen)
    story.exit_codes.append(service.terminate())
    follower.join(WAIT_S)
    story.log += service.events()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    story, data_dir = Story(), tmp_path_factory.mktemp("service") / "data"
    with ServiceProcess(data_dir, grace_s=0.05) as service:
        story.long_job = first_life(service, story)
    with ServiceProcess(data_dir, grace_s=60) as service:
        second_life(service, story)
    return story


def first_life(service: ServiceProcess, story: Story) -> str:
    """Start, draw, and stop while a job is drawn that takes longer than the grace."""
    story.early = [service.http.get("/readyz"), service.http.post("/v1/jobs", json=APPLE), service.http.get("/healthz")]
    service.wait_until_ready()
    story.apple = service.wait_for(service.submit(**APPLE)["id"])
    story.pictures = [service.picture(story.apple, index) for index in range(2)]
    story.too_long = service.http.post("/v1/jobs", json={"prompt": "an apple and " * 10 + "a cat"})
    story.second_service = run_backend(data_dir=service.data_dir, port=0)
    story.same_port = run_backend(data_dir=service.data_dir.with_name("other"), port=service.http.base_url.port)
    long_job = str(service.submit(**LONG)["id"])
    service.wait_for(long_job, "running")
    stop_followed(service, story, story.long_job_followed, long_job)
    return long_job


def second_life(service: ServiceProcess, story: Story) -> None:
    """Start on the same data, find the job, and stop while another is drawn that ends within the grace."""
    service.wait_until_ready()
    story.long_job_after_restart = service.wait_for(story.long_job)
    story.long_picture = service.picture(story.long_job_after_restart)
    story.long_picture_undisturbed = service.picture(service.wait_for(service.submit(**LONG)["id"]))
    again = service.wait_for(service.submit(**APPLE)["id"])
    story.pictures_after_restart = [service.picture(again, index) for index in range(2)]
    last_job = service.submit(**SHORT)["id"]
    service.wait_for(last_job, "running", "succeeded")
    stop_followed(service, story, story.last_job_followed, last_job)


def test_health_answers_while_the_model_is_loading(story: Story) -> None:
    assert [answer.status_code for answer in story.early] == [503, 503, 200]
    for answer in story.early[:2]:
        assert answer.json()["error"]["code"] == "model_loading"
        assert int(answer.headers["retry-after"]) <= 120


def test_a_picture_is_drawn_with_the_record_of_how_to_draw_it_again(story: Story) -> None:
    assert story.apple["status"] == "succeeded"
    for content, seed in zip(story.pictures, (4294967295, 0), strict=True):
        with PngImagePlugin.PngImageFile(io.BytesIO(content)) as png:
            lines = str(png.text["parameters"]).split("\n")
            record = json.loads(png.text["kotoe"])
            assert png.size == (256, 256)
        assert lines[:2] == ["a red apple on a blue background", "Negative prompt: a dog"]
        assert f"Steps: 8, Sampler: DPM++ 2M, CFG scale: 2.5, Seed: {seed}, Size: 256x256" in lines[2]
        asked = {name: value for name, value in APPLE.items() if name not in ("seed", "n")}
        assert {name: record[name] for name in asked} == asked
        assert (record["seed"], record["model"], len(record["model_hash"])) == (seed, "kotoe-mini", 64)


def test_the_same_seed_gives_the_same_bytes_after_a_restart(story: Story) -> None:
    assert story.pictures_after_restart == story.pictures
    assert story.pictures[0] != story.pictures[1]


def test_more_tokens_than_the_mini_model_reads_are_told_with_both_numbers(story: Story) -> None:
    error = story.too_long.json()["error"]
    assert (story.too_long.status_code, error["code"]) == (400, "invalid_prompt")
    assert "32 tokens, at most 24" in error["message"]


def test_sigterm_ends_the_service_with_0(story: Story) -> None:
    assert story.exit_codes == [0, 0]


def test_a_batch_that_outlasts_the_grace_is_put_back_and_resumes_after_the_restart(story: Story) -> None:
    assert story.long_job_followed[-1] == "queued"
    assert story.long_job_after_restart["status"] == "succeeded"
    assert story.long_picture == story.long_picture_undisturbed


def test_a_batch_that_ends_within_the_grace_is_finished_and_its_followers_are_told(story: Story) -> None:
    assert story.last_job_followed[-1] == "succeeded"


def test_every_line_of_the_log_is_json_with_a_severity_and_without_user_text(story: Story) -> None:
    assert {"listening", "model loaded", "job accepted", "job succeeded"} <= {line["message"] for line in story.log}
    assert {line["severity"] for line in story.log} == {"INFO"}
    text = json.dumps(story.log, ensure_ascii=False)
    assert "apple" not in text
    assert "りんご" not in text


def assert_refused(done: subprocess.CompletedProcess[str] | None, *parts: str) -> None:
    """It ended with 2 and one line that says what to do."""
    assert done
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    for part in parts:
        assert part in line


def test_a_second_service_on_the_same_data_is_refused(story: Story) -> None:
    assert_refused(story.second_service, "another service uses the data folder", "BACKEND_DATA_DIR")


def test_a_port_that_is_taken_is_told(story: Story) -> None:
    assert_refused(story.same_port, "can't listen on 127.0.0.1:", "BACKEND_PORT")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "kotoe.example"])
def test_an_address_that_others_reach_needs_a_token(host: str, tmp_path: Path) -> None:
    assert_refused(run_backend(host=host, port=0, data_dir=tmp_path), "BACKEND_HOST", host, "BACKEND_TOKEN")


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("nowhere.invalid", "BACKEND_HOST is 'nowhere.invalid': there is no such address or host name"),
        ("127.0.0.1:80", "BACKEND_HOST is '127.0.0.1:80': there is no such address or host name"),
        ("192.0.2.77", "can't listen on 192.0.2.77:0"),
    ],
)
def test_an_address_that_is_none_of_this_machine_is_told(host: str, message: str, tmp_path: Path) -> None:
    assert_refused(run_backend(host=host, port=0, token="s3cret", data_dir=tmp_path), message)


@pytest.mark.parametrize(
    ("host", "address"),
    [("LOCALHOST", "http://127.0.0.1:"), ("127.0.0.2", "http://127.0.0.2:"), ("[::1]", "http://[::1]:")],
)
def test_loopback_has_many_names_and_needs_no_token(host: str, address: str, tmp_path: Path) -> None:
    if "::1" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with ServiceProcess(tmp_path / "data", host=host) as service:
        assert service.url.startswith(address)
        assert service.http.get("/healthz").status_code == 200


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("setting", "value", "parts"),
    [
        ("port", "many", ["BACKEND_PORT is 'many'"]),
        ("port", "70000", ["BACKEND_PORT is '70000'", "65535"]),
        ("model", "big", ["BACKEND_MODEL is 'big'", "mini"]),
        ("device", "tpu", ["BACKEND_DEVICE is 'tpu'"]),
        ("max_queued_jobs", "0", ["BACKEND_MAX_QUEUED_JOBS is '0'"]),
        ("grace_s", "-1", ["BACKEND_GRACE_S is '-1'"]),
        ("blocklist", "/nowhere/terms", ["can't read the blocklist /nowhere/terms"]),
        ("data_dir", "/proc/kotoe", ["the data folder /proc/kotoe can't be used"]),
    ],
)
def test_a_bad_setting_is_one_line(setting: str, value: str, parts: list[str], tmp_path: Path) -> None:
    assert_refused(run_backend(**{"data_dir": tmp_path, "port": 0} | {setting: value}), *parts)


@pytest.mark.parametrize("token", ["two words", "t0ken\n", "言絵"])
def test_a_token_that_nobody_could_send_is_refused_and_not_shown(token: str, tmp_path: Path) -> None:
    done = run_backend(token=token, data_dir=tmp_path, port=0)
    assert_refused(done, "BACKEND_TOKEN", "ASCII")
    assert token.strip() not in done.stderr


def test_an_empty_setting_is_as_if_it_were_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(f"BACKEND_{name.upper()}", "")
    empty = Settings()
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BACKEND_{name.upper()}")
    assert empty == Settings()


def test_help_lists_every_setting_with_its_meaning_and_default() -> None:
    done = run_backend("--help")
    assert done.returncode == 0
    for name, setting in Settings.model_fields.items():
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"  BACKEND_{name.upper()} ")]
        assert setting.description
        assert setting.description in line
        assert line.endswith(f"[{setting.get_default()}]")


def test_a_service_for_others_listens_with_a_token_and_stops_while_it_loads(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path / "data", host="0.0.0.0", token="s3cret", grace_s=60) as service:
        assert service.http.get("/healthz").status_code == 200
        assert service.http.get("/v1/status").status_code == 401
        assert service.terminate() == 0


@contextmanager
def silent_connections(service: ServiceProcess, count: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing, opened without waiting for the service."""
    address = (service.http.base_url.host, service.http.base_url.port)
    with ExitStack() as stack:
        crowd = [stack.enter_context(socket.socket()) for _ in range(count)]
        for connection in crowd:
            connection.setblocking(False)
            connection.connect_ex(address)
        yield crowd


def lines_about_connections(service: ServiceProcess) -> list[str]:
    return [line["message"] for line in service.events() if "connection" in line["message"]]


def test_more_silent_connections_than_files_keep_nobody_out(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path / "data", (200, 400)) as service:
        service.wait_until_ready()
        limits = Path(f"/proc/{service.process.pid}/limits")
        if limits.exists():
            assert re.search(r"Max open files\s+400\s+400", limits.read_text())
        with silent_connections(service, 700):
            for _ in range(3):
                with httpx.Client(base_url=service.url, timeout=WAIT_S) as newcomer:
                    assert newcomer.get("/readyz").status_code == 200
            job = service.wait_for(service.submit(**SHORT)["id"])
            assert len(service.picture(job)) > 100
        assert len(lines_about_connections(service)) <= 3
        assert service.log.stat().st_size < 100_000
        assert service.terminate() == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are changed on Linux alone")
@pytest.mark.crash
def test_a_process_without_files_left_tells_so_in_a_line_and_serves_again_later(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path / "data", (1000, 1000)) as service:
        service.wait_until_ready()
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (100, 1000))  # less than it knows of
        with silent_connections(service, 300):
            wait_until(lambda: lines_about_connections(service))
            until = time.monotonic() + 3  # asyncio tries again once a second
            wait_until(lambda: time.monotonic() > until)
        with httpx.Client(base_url=service.url, timeout=WAIT_S) as newcomer:
            assert newcomer.get("/healthz").status_code == 200
            assert newcomer.post("/v1/jobs", json={"prompt": "a red apple"}).status_code == 202
        (line,) = lines_about_connections(service)
        assert "Too many open files" in line
        assert "Traceback" not in service.log.read_text()
        assert service.terminate() == 0

"""Backend and page in their containers: what they do there, and what they may not."""

import io
import json
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.containers.stack import TOKEN, Stack, docker, image_of, wait_until, what_is_missing

if reason := what_is_missing():
    pytest.skip(reason, allow_module_level=True)

SERVICES = ("backend", "page")
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
UID = "10001"


def call(stack: Stack, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.request(method, stack.url("backend") + path, headers=headers, timeout=30, **more)


def submit(stack: Stack, **fields: Any) -> str:
    answer = call(stack, "POST", "/v1/jobs", json={"prompt": "a red apple on a blue background"} | fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def wait_for(stack: Stack, job_id: str, status: str) -> dict[str, Any]:
    """The job once it has that status; meanwhile the backend may be gone."""
    found: dict[str, Any] = {}

    def has_it() -> bool:
        try:
            answer = call(stack, "GET", f"/v1/jobs/{job_id}")
        except httpx.TransportError:
            return False
        found.update(answer.json() if answer.is_success else {})
        return found.get("status") == status

    wait_until(has_it)
    return found


@contextmanager
def running(image: str, *options: str) -> Iterator[str]:
    """A container of its own, as the machine in the cloud runs it."""
    name = f"kotoe-test-{uuid.uuid4().hex[:8]}"
    done = docker("run", "--detach", f"--name={name}", *HARDENED, *options, image)
    try:
        assert done.returncode == 0, done.stderr
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def health_of(container: str) -> str:
    return docker("inspect", "--format={{.State.Health.Status}}", container).stdout.strip()


@pytest.mark.parametrize("service", SERVICES)
def test_the_health_check_says_healthy(stack: Stack, service: str) -> None:
    assert stack.state(service)["State"]["Health"]["Status"] == "healthy"


def test_the_page_translates_has_it_drawn_and_finds_the_picture_in_the_gallery(stack: Stack) -> None:
    script = (Path(__file__).parent / "visit.py").read_text(encoding="utf-8")
    assert json.loads(stack.execute("page", "python", "-", script=script)) == {
        "status": "succeeded",
        "english": "a red apple on a blue background",
        "same_as_the_backend_tells": True,
        "sources": ["青い背景に赤いりんご"],
        "left": [],
    }


def test_the_page_draws_in_a_browser(stack: Stack) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import expect, sync_playwright

    from frontend_streamlit.texts.japanese import JAPANESE

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(locale="ja-JP")
        page.goto(stack.url("page"))
        page.get_by_label(JAPANESE.prompt, exact=True).fill("青い背景に赤いりんご", timeout=300_000)
        page.get_by_role("button", name=JAPANESE.draw, exact=True).last.click()
        expect(page.locator("[class*=st-key-job_]").get_by_text(JAPANESE.download)).to_be_visible(timeout=300_000)
        browser.close()


def test_the_backend_draws_for_callers_on_this_machine_that_have_the_token(stack: Stack) -> None:
    assert httpx.get(f"{stack.url('backend')}/v1/status", timeout=30).status_code == 401
    job = wait_for(stack, submit(stack, seed=7), "succeeded")
    with Image.open(io.BytesIO(call(stack, "GET", job["images"][0]["url"]).content)) as picture:
        assert (picture.format, picture.size) == ("PNG", (256, 256))


@pytest.mark.parametrize("service", SERVICES)
def test_its_port_is_open_to_this_machine_alone(stack: Stack, service: str) -> None:
    ports = stack.state(service)["NetworkSettings"]["Ports"]
    assert [binding["HostIp"] for bindings in ports.values() for binding in bindings or ()] == ["127.0.0.1"]


def test_a_job_survives_the_death_of_the_backend(stack: Stack) -> None:
    job_id = submit(stack, steps=250, upscale=False, seed=7)
    wait_for(stack, job_id, "running")
    before = stack.state("backend")
    # From outside, as the kernel does: `docker kill` would count as the wish that it stays down.
    code = f"import os; os.kill({before['State']['Pid']}, 9)"
    killer = ("run", "--rm", "--pid=host", "--network=none", "--user=0", image_of("backend"), "python", "-c", code)
    assert docker(*killer).returncode == 0
    wait_until(lambda: stack.state("backend")["RestartCount"] > before["RestartCount"])
    assert wait_for(stack, job_id, "succeeded")["images"]
    wait_until(lambda: stack.state("backend")["State"]["Health"]["Status"] == "healthy")


@pytest.mark.parametrize("service", SERVICES)
def test_it_runs_as_nobody_special_and_can_write_its_data_alone(stack: Stack, service: str) -> None:
    answer = stack.execute(
        service,
        "sh",
        "-c",
        "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status;"
        " for folder in / /app /opt/venv /data/gallery /tmp;"
        " do if touch $folder/probe 2>/dev/null; then rm $folder/probe; echo writes $folder; fi; done",
    )
    lines = answer.split()
    assert lines[0] == UID
    assert dict(zip(lines[1:7:2], lines[2:7:2], strict=True)) == {
        "CapBnd:": "0" * 16,
        "CapEff:": "0" * 16,
        "NoNewPrivs:": "1",
    }
    assert lines[7:] == ["writes", "/data/gallery", "writes", "/tmp"]


def test_both_end_in_good_order_on_sigterm(stack: Stack) -> None:
    job_id = submit(stack, steps=100, upscale=False, seed=8)
    wait_for(stack, job_id, "running")
    started_at = time.monotonic()
    stack.compose("stop")
    assert time.monotonic() - started_at < 75  # neither was killed: the page has 10 s, the backend 40 s
    assert [stack.state(service)["State"]["ExitCode"] for service in SERVICES] == [0, 0]
    stack.start()
    wait_for(stack, job_id, "succeeded")


@pytest.mark.usefixtures("built")
def test_the_backend_refuses_to_start_without_a_token() -> None:
    done = docker("run", "--rm", "--network=none", *HARDENED, image_of("backend"))
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*there is no BACKEND_TOKEN.*\n", done.stderr)


@pytest.mark.usefixtures("built")
def test_the_backend_needs_no_volume_and_no_network() -> None:
    with running(image_of("backend"), "--network=none", "--env=BACKEND_TOKEN=x") as container:
        wait_until(lambda: health_of(container) == "healthy")


@pytest.mark.usefixtures("built")
def test_the_page_listens_where_cloud_run_says() -> None:
    with running(image_of("page"), "--network=none", "--env=PORT=8080") as container:
        wait_until(lambda: health_of(container) == "healthy")
        assert ":8080" in docker("logs", container).stdout


def test_an_image_with_the_published_checkpoints_draws_without_a_network(glide_image: str) -> None:
    with running(glide_image, "--network=none", "--env=BACKEND_TOKEN=x", "--env=OMP_NUM_THREADS=1") as container:
        wait_until(lambda: health_of(container) == "healthy")
        events = [json.loads(line) for line in docker("logs", container).stderr.splitlines()]
        assert [event["model"] for event in events if event["message"] == "model loaded"] == ["glide"]
        assert docker("exec", container, "ls", "/models").stdout.split() == [
            "base.float16.safetensors",
            "upsample.float16.safetensors",
        ]


@pytest.mark.usefixtures("build_network")
def test_an_unknown_model_is_refused_when_it_is_built() -> None:
    done = docker("buildx", "build", "--build-arg=MODEL=maxi", "--file=docker/backend.Dockerfile", ".")
    assert done.returncode != 0
    assert "runtime-maxi" in done.stderr


@pytest.mark.usefixtures("build_network")
def test_the_gpu_override_asks_for_one_nvidia_gpu() -> None:
    files = ("--file=docker/compose.yaml", "--file=docker/compose.gpu.yaml")
    backend = json.loads(docker("compose", *files, "config", "--format=json").stdout)["services"]["backend"]
    (device,) = backend["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    assert backend["environment"]["BACKEND_DEVICE"] == "cuda"

"""Both containers as docker/compose.yaml starts them, under names and ports of their own."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROJECT = "kotoe-test"
REVISION = "0123456789ab"
TOKEN = "token-of-the-test"
BUILD_TIMEOUT_S = 1800.0
WAIT_S = 600.0  # for what takes seconds, on a machine that does much else


def docker(*arguments: str, timeout_s: float = WAIT_S, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s, **more
    )


def wait_until(condition: Callable[[], Any], timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def what_is_missing() -> str:
    """Why nothing can be built here; empty if it can."""
    if "CONTAINER_TESTS" not in os.environ:
        return "builds images, which takes minutes: make test-containers runs it"
    if shutil.which("docker") is None:
        return "no container engine: docker is not installed"
    for command in ("info", "compose version"):
        if (done := docker(*command.split())).returncode:
            return f"no container engine: docker {command} says {(done.stderr or done.stdout).strip()[-200:]}"
    dockerfile = (ROOT / "docker/backend.Dockerfile").read_text(encoding="utf-8")
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", dockerfile, flags=re.MULTILINE)
    if docker("image", "inspect", base).returncode and docker("pull", base, timeout_s=BUILD_TIMEOUT_S).returncode:
        return f"the base image {base} is not here and can't be pulled"
    return ""


def image_of(service: str) -> str:
    return f"{PROJECT}-{service}"


@dataclass(frozen=True)
class Stack:
    """The compose project; `override` is what differs from the one that users start."""

    override: Path
    ports: dict[str, int]

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def compose(self, *arguments: str, timeout_s: float = WAIT_S, **more: Any) -> str:
        files = ("--file=docker/compose.yaml", f"--file={self.override}")
        settings = {
            "MODEL": "mini",
            "REVISION": REVISION,
            "BACKEND_TOKEN": TOKEN,
            "BACKEND_PORT": str(self.ports["backend"]),
            "FRONTEND_PORT": str(self.ports["page"]),
        }
        command = ("compose", f"--project-name={PROJECT}", *files, *arguments)
        done = docker(*command, timeout_s=timeout_s, env=os.environ | settings, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        self.compose("up", "--no-build", "--detach", "--wait")

    def execute(self, service: str, *command: str, script: str = "") -> str:
        """Run a command in a running container, with `script` as its input."""
        return self.compose("exec", "--no-TTY", service, *command, input=script)

    def state(self, service: str) -> dict[str, Any]:
        """The container as the engine describes it."""
        container = self.compose("ps", "--all", "--quiet", service).strip()
        (document,) = json.loads(docker("inspect", container).stdout)
        return dict(document)

"""The GPU machine during a deployment: which revision it runs, and how far its boot is."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from terraform.deploy.commands import Commands
from terraform.deploy.errors import CommandFailed, DeployError

POLL_S = 5.0
TIMEOUT_S = 20 * 60.0
ERROR_S = 3 * 60.0  # systemd tries again; an error that stays is one
ASLEEP = {"TERMINATED", "STOPPED", "STOPPING", "SUSPENDED"}


@dataclass(frozen=True)
class Machine:
    """One instance; it reports its phase by guest attributes, to the page as well."""

    name: str
    zone: str
    commands: Commands
    sleep: Callable[[float], None] = time.sleep

    def status(self) -> str:
        """The instance's state in Compute Engine's words, such as RUNNING."""
        return self._gcloud("describe", "--format=value(status)")

    def attributes(self) -> dict[str, str]:
        """The guest attributes that it wrote, since this boot or an earlier one; none before its first boot."""
        try:
            answer: list[dict[str, Any]] = self.commands.gcloud_json(
                "compute", "instances", "get-guest-attributes", self.name, f"--zone={self.zone}", "--query-path=app/"
            )
        except CommandFailed:
            return {}
        return {item["key"]: item["value"] for item in answer or []}

    def run_revision(self, revision: str) -> None:
        """Reboot a running machine into the new revision and wait for it; leave a stopped one stopped.

        Raises:
            DeployError: it did not become ready.
        """
        if self.status() in ASLEEP:
            self.commands.say("the GPU machine sleeps: it takes what is new when the page wakes it")
            return
        running = self.attributes().get("revision", revision)  # none: its first boot, which takes the new one
        if running != revision:
            self.commands.say("the GPU machine boots anew; a job that it draws starts over then")
            self._gcloud("reset")
        self.wait_until_ready(revision)

    def wait_until_ready(self, revision: str) -> None:
        """Follow the boot, a line for each phase.

        Raises:
            DeployError: it did not become ready.
        """
        shown, error_at, deadline = "", None, time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            attributes = self.attributes()
            phase = attributes.get("phase", "boot").split()[0]
            if attributes.get("revision") != revision:
                phase = "boot"  # the rest is of an earlier run
            if phase != shown:
                self.commands.say(f"GPU machine: {phase}")
                shown, error_at = phase, time.monotonic() if phase == "error" else None
            if phase == "ready":
                return
            if error_at is not None and time.monotonic() - error_at > ERROR_S:
                raise DeployError(f"the GPU machine can't boot: {self.log_command()} says why")
            if self.status() in ASLEEP:
                raise DeployError(f"the GPU machine went off before it was ready: {self.log_command()} says why")
            self.sleep(POLL_S)
        raise DeployError(f"the GPU machine is not ready after {TIMEOUT_S / 60:.0f} minutes: see {self.log_command()}")

    def log_command(self) -> str:
        """The command that shows what the machine wrote on its console."""
        place = f"--zone={self.zone} --project={self.commands.project}"
        return f"gcloud compute instances get-serial-port-output {self.name} {place}"

    def _gcloud(self, action: str, *arguments: str) -> str:
        return self.commands.gcloud("compute", "instances", action, self.name, f"--zone={self.zone}", *arguments)

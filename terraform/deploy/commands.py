"""The programs that do the work: all that they say goes to one log, the user sees a line per phase."""

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terraform.deploy.errors import CommandFailed
from terraform.deploy.options import ROOT

# How gcloud (528) says that what it looked for is not there. Only the line of its error counts: warnings before it may
# speak of something else that was not found. "(or it may not exist)" is what a missing permission looks like.
NOT_THERE = re.compile(r"^ERROR: \(gcloud\.[\w.-]+\) .*(?:not found|NOT_FOUND|HTTPError 404)", re.MULTILINE)


@dataclass(frozen=True)
class Commands:
    """Runs programs for one project and reports each phase to the user."""

    project: str
    log: Path
    started_at: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """A line for the user, with the time since the beginning."""
        minutes, seconds = divmod(int(time.monotonic() - self.started_at), 60)
        print(f"{minutes:3d}:{seconds:02d}  {text}", flush=True)

    def run(self, *command: str, environment: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
        """Run a program and return its standard output; `environment` is added to that of this process.

        Raises:
            CommandFailed: it ended with an error.
        """
        self._note(f"\n$ {' '.join(command)}\n")
        with subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                stdout, stderr = process.communicate()
            except KeyboardInterrupt:  # it got Ctrl-C, too: Terraform must write down what it made
                self.say(f"stopping {command[0]}")
                process.communicate()
                raise
        self._note(stdout + stderr)
        if process.returncode:
            said = [line for line in (stdout + stderr).splitlines() if line.strip(" │╷╵")]
            message = f"{' '.join(command[:3])} … failed; all it said is in {self.log}"
            raise CommandFailed(message, "\n".join(said))
        return stdout

    def succeeds(self, *command: str) -> bool:
        """Whether a program ends well."""
        try:
            self.run(*command)
        except CommandFailed:
            return False
        return True

    def gcloud(self, *arguments: str) -> str:
        """Run gcloud in the project, without questions."""
        return self.run("gcloud", *arguments, f"--project={self.project}", "--quiet").strip()

    def gcloud_json(self, *arguments: str) -> Any:
        """What gcloud answers, parsed."""
        return json.loads(self.gcloud(*arguments, "--format=json") or "null")

    def has(self, *arguments: str) -> bool:
        """Whether something that gcloud can describe is there.

        Raises:
            CommandFailed: gcloud could not find out, such as without network or permission.
        """
        try:
            self.gcloud(*arguments)
        except CommandFailed as error:
            if NOT_THERE.search(error.output):
                return False
            raise
        return True

    def _note(self, text: str) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            log.write(text)

"""One Terraform stack: initialised, applied, destroyed, asked for what it made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from terraform.deploy.commands import Commands
from terraform.deploy.options import ROOT, Options


@dataclass(frozen=True)
class Stack:
    """`terraform/NAME`, with its state in the project's bucket."""

    name: str
    commands: Commands
    options: Options

    def init(self) -> None:
        """Fetch providers; find the state of this project, whatever was deployed from here before."""
        bucket = self.options.state_bucket.removeprefix("gs://")
        state = (f"-backend-config=bucket={bucket}", f"-backend-config=prefix={self.name}")
        self._terraform("init", "-input=false", "-no-color", "-reconfigure", *state)

    def apply(self, variables: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> None:
        """Apply it. `secrets` are variables that go through the environment, where no list of processes shows them."""
        self._terraform("apply", *AUTOMATIC, *as_arguments(variables), secrets=secrets)

    def destroy(self, variables: Mapping[str, Any]) -> None:
        """Remove what the stack made. Nothing is looked up first: an image that is gone must not be in the way."""
        self._terraform("destroy", *AUTOMATIC, "-refresh=false", *as_arguments(variables))

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs by name; none before the first apply."""
        answer = json.loads(self._terraform("output", "-json", "-no-color"))
        return {name: output["value"] for name, output in answer.items()}

    def _terraform(self, command: str, *arguments: str, secrets: Mapping[str, str] | None = None) -> str:
        folder = ROOT / "terraform" / self.name
        environment = {"TF_IN_AUTOMATION": "1"} | {f"TF_VAR_{name}": value for name, value in (secrets or {}).items()}
        return self.commands.run("terraform", f"-chdir={folder}", command, *arguments, environment=environment)


AUTOMATIC = ("-auto-approve", "-input=false", "-no-color", "-lock-timeout=5m")


def as_arguments(variables: Mapping[str, Any]) -> list[str]:
    """Variables as Terraform takes them on its command line."""
    return [
        f"-var={name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in variables.items()
    ]

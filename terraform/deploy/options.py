"""What the user asked for, from the environment, where make puts it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terraform.deploy.errors import DeployError

ROOT = Path(__file__).parents[2]
GPUS: dict[str, dict[str, Any]] = json.loads((ROOT / "terraform/app/gpus.json").read_text(encoding="utf-8"))
CHOICES = {
    "GPU": tuple(GPUS),
    "AUTH": ("iap", "oidc"),
    "BACKEND": ("vm", "cloudrun"),
    "MODEL": ("mini", "glide"),
    "TRANSLATOR": ("offline", "google"),
    "BUILDER": ("cloud", "docker"),
}
USER = re.compile(r"(user|group|serviceAccount):[^@\s]+@[^@\s]+|domain:[a-z0-9.-]+")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What one deployment was asked for; `zones` and `users` may be empty: then they are found out."""

    project: str
    region: str
    zones: tuple[str, ...]
    gpu: str
    spot: bool
    auth: str
    users: tuple[str, ...]
    backend: str
    model: str
    torch_index: str
    translator: str
    builder: str
    budget: int
    oidc_client_id: str
    oidc_client_secret: str
    yes: bool
    wait: bool

    @property
    def state_bucket(self) -> str:
        """The bucket of Terraform's state."""
        return f"gs://{self.project}-kotoe-state"

    @property
    def registry(self) -> str:
        """The path that both images are pushed under."""
        return f"{self.region}-docker.pkg.dev/{self.project}/kotoe"


def read_options(environment: Mapping[str, str]) -> Options:
    """Read and check the options of one deployment.

    Raises:
        DeployError: one of them has a value that can't be.
    """
    values = {name: value.strip() for name, value in environment.items() if value.strip()}
    project = values.get("PROJECT", "")
    if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", project):
        raise DeployError(f"PROJECT is {project!r}: name the project's id, as in make deploy PROJECT=my-project-1")
    chosen = {name: values.get(name, names[0]) for name, names in CHOICES.items()}
    if "GPU" not in values:
        chosen["GPU"] = "t4" if chosen["BACKEND"] == "vm" else "l4"
    for name, value in chosen.items():
        if value not in CHOICES[name]:
            raise DeployError(f"{name} is {value!r}, not one of {', '.join(CHOICES[name])}")
    region = values.get("REGION", "asia-northeast1")
    zones = tuple(re.split(r"[,\s]+", values["ZONE"])) if "ZONE" in values else ()
    if zones and "REGION" not in values:
        region = zones[0].rpartition("-")[0]
    if not re.fullmatch(r"[a-z]+-[a-z]+[0-9]+", region):
        raise DeployError(f"REGION is {region!r}: name a region, such as asia-northeast1")
    for zone in zones:
        if not re.fullmatch(rf"{region}-[a-z]", zone):
            raise DeployError(
                f"ZONE has {zone!r}, which is no zone of {region}: the page and the machine share a region"
            )
    users = tuple(re.split(r"[,\s]+", values["USERS"])) if "USERS" in values else ()
    for user in users:
        if not USER.fullmatch(user):
            raise DeployError(f"USERS has {user!r}: write user:NAME@HOST, group:NAME@HOST or domain:HOST")
    torch_index = values.get("TORCH_INDEX", "")
    if not re.fullmatch(r"(https?://[^\s,]+)?", torch_index):
        raise DeployError(f"TORCH_INDEX is {torch_index!r}: name the URL of an index that has torch")
    budget = values.get("BUDGET", "0")
    if not re.fullmatch(r"\d{1,9}", budget):
        raise DeployError(f"BUDGET is {budget!r}, not a whole number in the currency of the billing account")
    return Options(
        project=project,
        region=region,
        zones=zones,
        gpu=chosen["GPU"],
        spot=is_set(values, "SPOT"),
        auth=chosen["AUTH"],
        users=users,
        backend=chosen["BACKEND"],
        model=chosen["MODEL"],
        torch_index=torch_index,
        translator=chosen["TRANSLATOR"],
        builder=chosen["BUILDER"],
        budget=int(budget),
        oidc_client_id=values.get("OIDC_CLIENT_ID", ""),
        oidc_client_secret=values.get("OIDC_CLIENT_SECRET", ""),
        yes=is_set(values, "YES"),
        wait=is_set(values, "WAIT"),
    )


def is_set(values: Mapping[str, str], name: str) -> bool:
    """Whether a switch is on.

    Raises:
        DeployError: it is neither on nor off.
    """
    value = values.get(name, "0")
    if value not in ("0", "1"):
        raise DeployError(f"{name} is {value!r}, not 1 or 0")
    return value == "1"

"""Settings of the backend, from the environment (`BACKEND_…`)."""

import codecs
import ipaddress
import locale
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend_gpu.errors import InvalidRequest

HOST_AND_PORT = r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?)(:[0-9]{1,5})?"  # ASCII: others as their xn-- names


def sendable(token: SecretStr) -> SecretStr:
    """Refuse a token that no caller could send, such as one with the line end of the file that it came from."""
    if not re.fullmatch("[!-~]*", token.get_secret_value()):
        raise ValueError("a token is ASCII letters, digits and signs, without spaces or line ends")
    return token


def bare_host(host: str) -> str:
    """A host as sockets take it: an address in its shortest form, IPv6 without brackets; a name in lower case.

    IPv4 in the guise of IPv6 (::ffff:127.0.0.1) becomes plain, as sockets for IPv6 alone refuse it.
    """
    host = host.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        address = ipaddress.ip_address(host)
        return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        return host.lower()


def expanded(path: Path) -> Path:
    """A path whose ~ or ~user is that home folder.

    Raises:
        ValueError: there is no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no home folder {path.parts[0]}") from error


def expanded_root(root: str) -> str:
    """Likewise the root of a gallery, which may be a bucket's URL instead."""
    return str(expanded(Path(root))) if root.startswith("~") else root


def web_address(url: str) -> str:
    """Refuse what callers could not open."""
    if url and not re.fullmatch(rf"https?://{HOST_AND_PORT}(/[^\s?#]*)?", url, re.IGNORECASE):
        raise ValueError("an address is http:// or https://, a host, and if need be a port and a path")
    return url


def web_origins(text: str) -> str:
    """The origins in the spelling that browsers send."""
    origins = [origin.strip().lower() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if origin != "*" and not re.fullmatch(rf"[a-z][a-z0-9+.-]*://{HOST_AND_PORT}", origin):
            raise ValueError(
                f"{origin!r} is no origin: write scheme, host and if need be port, as in https://pictures.example, "
                "without a path or a slash at the end; or * for all sites"
            )
    return ",".join(re.sub("^(http://.*):80$|^(https://.*):443$", r"\1\2", origin) for origin in origins)


def let_waiting_threads_sleep() -> None:
    """Keep OpenMP's idle threads from spinning, if nobody chose; to be called before torch is imported.

    On two cores of which one had other work, a picture of the mini model took 1.5 to 1.7 s so and 1.6 to 1.9 s with
    spinning; on two idle ones 0.8 to 1.0 s either way, since each takes rows of its own (`glide/shares.py`).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def output_encoding() -> str | None:
    """The locale's encoding where UTF-8 mode (PYTHONUTF8=1, which we want for file names) hides it; None: leave it.

    The C locale says nothing of the terminal.
    """
    encoding = locale.getencoding()
    if not sys.flags.utf8_mode or "PYTHONIOENCODING" in os.environ or codecs.lookup(encoding).name == "ascii":
        return None
    return encoding


Host = Annotated[str, AfterValidator(bare_host)]
UserPath = Annotated[Path, AfterValidator(expanded)]
GalleryRoot = Annotated[str, AfterValidator(expanded_root)]


class Settings(BaseSettings):
    """What an operator may choose; read once by the entry point."""

    model_config = SettingsConfigDict(env_prefix="BACKEND_", env_ignore_empty=True)

    host: Annotated[Host, Field(description="address to listen on; any but loopback needs a token")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8000
    token: Annotated[
        SecretStr, AfterValidator(sendable), Field(description="bearer token that callers must send; empty: none")
    ] = SecretStr("")
    data_dir: Annotated[UserPath, Field(description="folder of the queue, finished pictures and checkpoints")] = Path(
        "data"
    )
    models_dir: Annotated[UserPath | None, Field(description="folder of checkpoints; empty: models in data_dir")] = None
    gallery: Annotated[
        GalleryRoot, Field(description="folder or gs:// URL of the gallery; empty: gallery in data_dir")
    ] = ""
    model: Annotated[str, Field(description="mini (embedded) or glide (OpenAI's checkpoints)")] = "mini"
    mini_dir: Annotated[
        UserPath | None, Field(description="a mini model of your own, as exported; empty: the embedded")
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="auto (a GPU if there is one), cpu or cuda")
    ] = "auto"
    max_queued_jobs: Annotated[PositiveInt, Field(description="jobs that may wait at once")] = 100
    max_jobs_per_owner: Annotated[PositiveInt, Field(description="jobs of one owner that may wait or run at once")] = 20
    quota_pictures: Annotated[PositiveInt, Field(description="pictures that one owner may ask for per window")] = 500
    quota_window_s: Annotated[PositiveInt, Field(description="length of that window, seconds")] = 3600
    max_batch_pictures: Annotated[PositiveInt, Field(description="pictures drawn together")] = 8
    max_attempts: Annotated[PositiveInt, Field(description="process deaths after which a job has failed")] = 2
    keep_jobs_s: Annotated[PositiveFloat, Field(description="seconds that an ended job can be read; pictures stay")] = (
        86400
    )
    grace_s: Annotated[PositiveFloat, Field(description="seconds that a running batch has after SIGTERM")] = 20
    blocklist: Annotated[
        UserPath | None, Field(description="file of refused terms, one a line; # starts a comment")
    ] = None
    public_url: Annotated[
        str,
        AfterValidator(web_address),
        Field(description="address under which callers reach this service, for picture URLs"),
    ] = ""
    cors_origins: Annotated[
        str,
        AfterValidator(web_origins),
        Field(description="sites whose pages may call, as https://a.example with commas, or *; empty: none"),
    ] = ""

    @property
    def allowed_origins(self) -> list[str]:
        """Of the pages of other sites that may call."""
        return self.cors_origins.split(",") if self.cors_origins else []

    @property
    def gallery_root(self) -> str:
        """Where finished pictures go."""
        return self.gallery or str(self.data_dir / "gallery")

    @property
    def checkpoints(self) -> Path:
        """Where published weights are."""
        return self.models_dir or self.data_dir / "models"


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        InvalidRequest: a setting has an impossible value.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"BACKEND_{str(first['loc'][0]).upper()}"
        value = "set" if name == "BACKEND_TOKEN" else repr(first["input"])  # a secret is not shown
        raise InvalidRequest(f"{name} is {value}: {first['msg']}") from error

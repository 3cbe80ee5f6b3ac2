"""Settings of the page, from the environment (`FRONTEND_…`)."""

import codecs
import ipaddress
import locale
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

VM_NAME = re.compile(r"projects/([a-z0-9.:-]+)/zones/([a-z0-9-]+)/instances/([a-z](?:[a-z0-9-]*[a-z0-9])?)")
TranslatorName = Literal["auto", "offline", "google", "local"]


def sendable(token: SecretStr) -> SecretStr:
    """Refuse a token that can't be sent, such as one with the line end of the file that it came from."""
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
    """Refuse what can't be opened."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or re.search(r"[\s?#]", url):
        raise ValueError("an address is http:// or https://, a host, and if need be a port and a path")
    return url


def vm_name(name: str) -> str:
    """Refuse what names no machine."""
    if name:
        parts_of_vm_name(name)
    return name


def parts_of_vm_name(name: str) -> tuple[str, str, str]:
    """Project, zone and own name of the machine of that name.

    Raises:
        ValueError: it is not of that form.
    """
    match = VM_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"FRONTEND_GPU_VM is {name!r}, not projects/PROJECT/zones/ZONE/instances/NAME")
    return match[1], match[2], match[3]


def email_list(addresses: str) -> str:
    """Refuse what lists no addresses: a list that nobody is on would look like one that lets nobody in."""
    for address in addresses.split(","):
        if addresses and not re.fullmatch(r"[^@\s]*@[^@\s]+", address.strip()):
            raise ValueError(f"{address.strip()!r} is neither an address nor @domain")
    return addresses


Host = Annotated[str, AfterValidator(bare_host)]
UserPath = Annotated[Path, AfterValidator(expanded)]
GalleryRoot = Annotated[str, AfterValidator(expanded_root)]


class Settings(BaseSettings):
    """What an operator may choose; read once by the entry point."""

    model_config = SettingsConfigDict(env_prefix="FRONTEND_", env_ignore_empty=True)

    host: Annotated[Host, Field(description="address that the page listens on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="port of the page")] = 8501
    backend_url: Annotated[str, AfterValidator(web_address), Field(description="where the backend is")] = (
        "http://127.0.0.1:8000"
    )
    backend_token: Annotated[SecretStr, AfterValidator(sendable), Field(description="the backend's bearer token")] = (
        SecretStr("")
    )
    gallery: Annotated[GalleryRoot, Field(description="folder or gs:// URL of the gallery")] = "data/gallery"
    translator: Annotated[
        TranslatorName,
        Field(description="auto takes google if it has a project, local if it has a folder, else offline"),
    ] = "auto"
    google_project: Annotated[str, Field(description="project that pays for Cloud Translation")] = ""
    google_location: Annotated[str, Field(description="its location; a glossary needs a region")] = "global"
    google_glossary: Annotated[str, Field(description="glossary to translate with")] = ""
    local_translator: Annotated[UserPath | None, Field(description="folder of a CTranslate2 model")] = None
    mini_dir: Annotated[
        UserPath | None, Field(description="a mini model of your own, for the offline translator; empty: the embedded")
    ] = None
    gpu_vm: Annotated[
        str,
        AfterValidator(vm_name),
        Field(description="projects/P/zones/Z/instances/N to wake; empty: none"),
    ] = ""
    login: Annotated[
        Literal["none", "oidc", "iap"],
        Field(description="none: whoever has the link; oidc: Streamlit's sign-in; iap: Google's IAP"),
    ] = "none"
    allowed_emails: Annotated[
        str,
        AfterValidator(email_list),
        Field(description="who may sign in with login oidc: addresses and @domains, with commas; empty: any account"),
    ] = ""
    iap_audience: Annotated[str, Field(description="audience of IAP's signed header; needed with login iap")] = ""


class BackendSettings(BaseSettings):
    """What the page's launcher must know of a backend that it starts itself."""

    model_config = SettingsConfigDict(env_prefix="BACKEND_", env_ignore_empty=True)

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    data_dir: UserPath = Path("data")
    gallery: GalleryRoot = ""
    token: str = ""

    @property
    def gallery_root(self) -> str:
        """Where it puts pictures, and the page looks for them."""
        return self.gallery or str(self.data_dir / "gallery")


def environment_with(defaults: Mapping[str, str]) -> dict[str, str]:
    """The environment for other processes, with values for what is not set in it."""
    return {**defaults, **{name: value for name, value in os.environ.items() if value or name not in defaults}}


def output_encoding() -> str | None:
    """The locale's encoding where UTF-8 mode (PYTHONUTF8=1, which we want for file names) hides it; None: leave it.

    The C locale says nothing of the terminal.
    """
    encoding = locale.getencoding()
    if not sys.flags.utf8_mode or "PYTHONIOENCODING" in os.environ or codecs.lookup(encoding).name == "ascii":
        return None
    return encoding


def first_mistake(error: ValidationError) -> str:
    """The first impossible value of settings, in one line."""
    first = error.errors()[0]
    prefix = "BACKEND" if error.title == BackendSettings.__name__ else "FRONTEND"
    name = f"{prefix}_{str(first['loc'][0]).upper()}"
    value = "set" if name.endswith("_TOKEN") else repr(first["input"])  # a secret is not shown
    return f"{name} is {value}: {first['msg']}"

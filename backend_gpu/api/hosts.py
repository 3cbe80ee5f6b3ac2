"""The names under which callers reach the service, which are not all theirs to choose."""

import ipaddress
import re
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from backend_gpu.settings import Settings, bare_host

AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::[0-9]{0,5})?", re.ASCII | re.IGNORECASE)
ABSOLUTE_TARGET = re.compile(rb"https?://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL)


def take_absolute_target(scope: Scope) -> None:
    """Read the target `http://name/path` as HTTP has it: the name counts before the Host header's, the path alone."""
    target = ABSOLUTE_TARGET.fullmatch(scope["raw_path"])
    if target:
        authority, path = target[1], target[2] or b"/"
        scope["headers"] = [(b"host", authority), *(pair for pair in scope["headers"] if pair[0] != b"host")]
        scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii"))


def authority_of(scope: Scope) -> str:
    """The host and port that the caller asked for; without a Host header those that it has connected to."""
    given = Headers(scope=scope).get("host")
    if given is not None:
        return given
    host, port = scope["server"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def name_of(authority: str) -> str | None:
    """The name or address in `host:port`, in one spelling; None where it is not well-formed."""
    parts = AUTHORITY.fullmatch(authority)
    return bare_host(parts[1]) if parts else None


def is_local(name: str) -> bool:
    """Whether a name always means this machine, so that no name server can make it mean another."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def set_names(settings: Settings) -> frozenset[str]:
    """The names that the operator gave the service."""
    public_name = urlsplit(settings.public_url).hostname or ""
    return frozenset({settings.host, bare_host(public_name.removesuffix("."))} - {""})


def address_for(settings: Settings, scope: Scope) -> str:
    """The service's own address, as its caller reaches it; without a slash at the end."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    authority = authority_of(scope)
    if name_of(authority) is None:
        authority = authority_of({**scope, "headers": []})
    return f"{scope['scheme']}://{authority}"

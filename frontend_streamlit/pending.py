"""A request that waits for the GPU machine: it lives in the page's link, so that a refresh does not lose it."""

import base64
import binascii
import hashlib
import hmac
import json
import uuid
import zlib
from dataclasses import asdict, dataclass, field, replace

from frontend_streamlit.backend_client import JobRequest

MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Pending:
    """What is to be drawn, and the key that makes one job of it, however many tabs hand it in."""

    request: JobRequest
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


def to_link(pending: Pending) -> str:
    """As one word that fits into a link; only its owner's page takes it back."""
    document = asdict(replace(pending.request, owner="")) | {"key": pending.key}
    packed = base64.urlsafe_b64encode(zlib.compress(json.dumps(document, ensure_ascii=False).encode())).decode()
    return f"{packed.rstrip('=')}.{seal(packed.rstrip('='), pending.request.owner)}"


def from_link(word: str | None, owner: str) -> Pending | None:
    """What `to_link` made for this owner; None for anything else."""
    packed, _, sealed = (word or "").partition(".")
    if not word or not hmac.compare_digest(seal(packed, owner).encode(), sealed.encode()):
        return None  # a link from somewhere else would draw, and wake the machine, in this user's name
    try:
        content = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        document = json.loads(zlib.decompressobj().decompress(content, MAX_BYTES))
        key = document.pop("key")
        return Pending(JobRequest(**document | {"owner": owner}), key)
    except (binascii.Error, zlib.error, ValueError, TypeError, KeyError):  # of an older page
        return None


def seal(packed: str, owner: str) -> str:
    """Shows that the owner's page wrote it: nobody else knows the owner's name."""
    return hmac.new(owner.encode(), packed.encode(), hashlib.sha256).hexdigest()[:32]

"""URLs of pictures that need no token for an hour."""

import hashlib
import hmac
import time

from backend_gpu.service import Service

SIGNED_S = 3600  # a signed URL is good for so long


def signed_query(service: Service, job_id: str, index: int) -> str:
    """What makes a picture's URL good without the token for an hour; empty where there is no token."""
    if not service.settings.token.get_secret_value():
        return ""
    expires = int(time.time()) + SIGNED_S
    return f"expires={expires}&signature={signature_of(service, job_id, index, expires)}"


def verify_signature(service: Service, job_id: str, index: int, expires: int, signature: str) -> bool:
    """Whether a signed URL is ours and still good."""
    expected = signature_of(service, job_id, index, expires)
    return expires > time.time() and hmac.compare_digest(signature.encode(), expected.encode())


def signature_of(service: Service, job_id: str, index: int, expires: int) -> str:
    """HMAC-SHA256 of which picture and until when, keyed by the token."""
    token = service.settings.token.get_secret_value()
    return hmac.new(token.encode(), f"{job_id} {index} {expires}".encode(), hashlib.sha256).hexdigest()

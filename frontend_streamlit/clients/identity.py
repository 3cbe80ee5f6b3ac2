"""Who the user is: an unguessable link, or an account whose proof was verified; always one safe path segment."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from frontend_streamlit.clients.gallery import OWNER

IAP_HEADER = "X-Goog-Iap-Jwt-Assertion"
IAP_KEYS_URL = "https://www.gstatic.com/iap/verify/public_key-jwk"
IAP_ISSUER = "https://cloud.google.com/iap"
KEYS_LIFETIME_S = 3600


class NotVerified(Exception):
    """There is no proof of who the user is, or it does not hold."""


def new_owner() -> str:
    """An owner for a link that nobody can guess."""
    return secrets.token_urlsafe(24)


def owner_in_link(value: str | None) -> str | None:
    """The owner that a link names, if it is one that `new_owner` could have made."""
    return value if value and len(value) >= 32 and OWNER.fullmatch(value) else None


def owner_of_account(issuer: str, subject: str) -> str:
    """The owner that belongs to an account; does not give the account away."""
    return hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:40]


def is_allowed(account: Mapping[str, Any], allowed_emails: str) -> bool:
    """Whether an account of an OIDC provider is on the list of addresses and @domains; an empty one has everybody."""
    if not allowed_emails:
        return True
    email = str(account.get("email", "")).casefold()
    if account.get("email_verified") is not True or not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        return False  # whoever could name any address as theirs could take anybody's
    allowed = {address.strip().casefold() for address in allowed_emails.split(",")}
    return not allowed.isdisjoint((email, f"@{email.partition('@')[2]}"))


def owner_of_iap(headers: Mapping[str, str], audience: str, keys_url: str = IAP_KEYS_URL) -> str:
    """The owner behind Google's Identity-Aware Proxy, from its signed header.

    Raises:
        NotVerified: the header is missing, or not signed by IAP for this audience, or has expired.
    """
    import jwt

    token = headers.get(IAP_HEADER, "")
    if not token or not audience:
        raise NotVerified("there is no signed header of IAP, or no audience is configured")
    try:
        key = signing_keys(keys_url).get_signing_key_from_jwt(token)
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=["ES256"],
            audience=audience,
            issuer=IAP_ISSUER,
            options={"require": ["exp", "iat", "sub"]},
            leeway=30,
        )
    except jwt.PyJWTError as error:
        raise NotVerified(str(error)) from error
    return owner_of_account(IAP_ISSUER, str(claims["sub"]))


@lru_cache(maxsize=4)
def signing_keys(url: str) -> Any:
    """The keys that IAP signs with, fetched when needed."""
    from jwt import PyJWKClient

    return PyJWKClient(url, cache_keys=True, lifespan=KEYS_LIFETIME_S, timeout=5)

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm
from pydantic import ValidationError

from frontend_streamlit.clients.gallery import OWNER
from frontend_streamlit.clients.identity import (
    IAP_HEADER,
    IAP_ISSUER,
    NotVerified,
    is_allowed,
    new_owner,
    owner_in_link,
    owner_of_account,
    owner_of_iap,
    signing_keys,
)
from frontend_streamlit.settings import Settings
from tests.loopback import serving

AUDIENCE = "/projects/123/global/backendServices/456"


@dataclass
class Issuer:
    """Stands in for IAP: a key, and the address where its public half is."""

    key: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))
    keys_url: str = ""

    def jwks(self) -> bytes:
        public = json.loads(ECAlgorithm.to_jwk(self.key.public_key()))
        return json.dumps({"keys": [public | {"kid": "one", "alg": "ES256", "use": "sig"}]}).encode()

    def token(self, key: Any = None, algorithm: str = "ES256", kid: str = "one", **changes: Any) -> str:
        now = int(time.time())
        claims = {"iss": IAP_ISSUER, "aud": AUDIENCE, "sub": "accounts.google.com:42", "iat": now, "exp": now + 600}
        claims = {name: value for name, value in (claims | changes).items() if value is not None}
        return jwt.encode(claims, self.key if key is None else key, algorithm, headers={"kid": kid})


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    iap = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(iap.jwks())

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        iap.keys_url = f"{url}/jwk"
        yield iap


def owner(issuer: Issuer, token: str, audience: str = AUDIENCE) -> str:
    return owner_of_iap({IAP_HEADER: token}, audience, issuer.keys_url)


def test_every_new_link_is_another_owner_and_one_that_the_gallery_takes() -> None:
    owners = {new_owner() for _ in range(100)}
    assert len(owners) == 100
    assert all(OWNER.fullmatch(name) and owner_in_link(name) == name for name in owners)


@pytest.mark.parametrize(
    "value",
    [None, "", "short", "a" * 31, "a" * 65, "../" * 20, "a" * 31 + "/", "a" * 32 + "\n", "あ" * 32, "a" * 31 + "."],
)
def test_a_link_that_could_be_guessed_or_leaves_its_folder_is_no_owner(value: str | None) -> None:
    assert owner_in_link(value) is None


def test_an_account_always_has_the_same_owner_that_does_not_tell_the_account() -> None:
    first = owner_of_account("https://accounts.google.com", "42")
    assert first == owner_of_account("https://accounts.google.com", "42")
    assert OWNER.fullmatch(first)
    assert first != "42"
    others = {owner_of_account("https://accounts.google.com", "43"), owner_of_account("https://example.com", "42")}
    assert len(others | {first}) == 3


def test_an_account_cant_be_made_up_from_the_parts_of_another() -> None:
    assert owner_of_account("a", "b:c") != owner_of_account("a:b", "c")


@pytest.mark.parametrize(
    ("email", "is_verified", "is_on_it"),
    [
        ("anna@example.com", True, True),
        ("Anna@Example.COM", True, True),
        ("anyone@kotoe.example", True, True),
        ("anna@example.com", False, False),
        ("anna@example.com", None, False),
        ("anna@example.com", "true", False),
        ("ben@example.com", True, False),
        ("x@sub.kotoe.example", True, False),
        ("x@notkotoe.example", True, False),
        ("anna@example.com@kotoe.example", True, False),
        ("@kotoe.example", True, False),
        ("", True, False),
    ],
)
def test_only_verified_addresses_on_the_list_are_let_in(email: str, is_verified: Any, is_on_it: bool) -> None:
    account = {"email": email, "email_verified": is_verified}
    assert is_allowed(account, "ANNA@example.com, @kotoe.example") is is_on_it


def test_without_a_list_every_account_is_let_in() -> None:
    assert is_allowed({}, "")


@pytest.mark.parametrize("addresses", ["anna", "anna@example.com,", "anna@example.com ben@example.com", ",", "@"])
def test_a_list_that_names_no_addresses_is_refused(addresses: str) -> None:
    with pytest.raises(ValidationError):
        Settings(allowed_emails=addresses)


def test_a_header_that_iap_signed_tells_the_owner(issuer: Issuer) -> None:
    assert owner(issuer, issuer.token()) == owner_of_account(IAP_ISSUER, "accounts.google.com:42")
    assert owner(issuer, issuer.token(sub="accounts.google.com:43")) != owner(issuer, issuer.token())


def test_keys_are_fetched_once(issuer: Issuer) -> None:
    assert signing_keys(issuer.keys_url) is signing_keys(issuer.keys_url)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "/projects/123/global/backendServices/999"},
        {"aud": None},
        {"iss": "https://example.com"},
        {"iss": None},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"iat": None},
        {"nbf": int(time.time()) + 3600},
        {"sub": None},
        {"kid": "unknown"},
    ],
    ids=str,
)
def test_a_signed_header_that_is_not_for_us_now_is_refused(issuer: Issuer, changes: dict[str, Any]) -> None:
    with pytest.raises(NotVerified):
        owner(issuer, issuer.token(**changes))


def test_a_header_signed_with_another_key_is_refused(issuer: Issuer) -> None:
    with pytest.raises(NotVerified):
        owner(issuer, issuer.token(generate_private_key(SECP256R1())))


def test_an_unsigned_header_is_refused(issuer: Issuer) -> None:
    with pytest.raises(NotVerified):
        owner(issuer, issuer.token("", "none"))


def test_a_header_signed_with_the_public_key_as_a_shared_secret_is_refused(issuer: Issuer) -> None:
    # PyJWT itself won't use a PEM as a secret: sign it by hand, as an attacker would.
    public = issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one","typ":"JWT"}').rstrip(b"=")
    body = issuer.token().split(".")[1].encode()
    signature = base64.urlsafe_b64encode(hmac.digest(public, head + b"." + body, hashlib.sha256)).rstrip(b"=")
    with pytest.raises(NotVerified):
        owner(issuer, b".".join((head, body, signature)).decode())


def test_a_header_that_was_changed_after_signing_is_refused(issuer: Issuer) -> None:
    head, _, signature = issuer.token().split(".")
    body = issuer.token(sub="accounts.google.com:1").split(".")[1]
    with pytest.raises(NotVerified):
        owner(issuer, f"{head}.{body}.{signature}")


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c", "é.é.é", "." * 5])
def test_garbage_in_the_header_is_refused(issuer: Issuer, token: str) -> None:
    with pytest.raises(NotVerified):
        owner(issuer, token)


def test_a_missing_header_is_refused(issuer: Issuer) -> None:
    with pytest.raises(NotVerified):
        owner_of_iap({}, AUDIENCE, issuer.keys_url)


def test_without_an_audience_nobody_is_let_in(issuer: Issuer) -> None:
    with pytest.raises(NotVerified):
        owner(issuer, issuer.token(aud=""), "")


def test_nobody_is_let_in_while_the_keys_cant_be_fetched(issuer: Issuer) -> None:
    with pytest.raises(NotVerified):
        owner_of_iap({IAP_HEADER: issuer.token()}, AUDIENCE, "http://127.0.0.1:9/jwk")

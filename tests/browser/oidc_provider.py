"""An OpenID provider on loopback: whoever comes chooses an account, and nobody asks for a password."""

import base64
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.loopback import serving

CLIENT_ID, CLIENT_SECRET = "kotoe", "hush"


def new_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256", "use": "sig"})


@dataclass
class Provider:
    """Its accounts, by subject, and what it knows of the sign-ins under way."""

    accounts: Mapping[str, Mapping[str, Any]]
    published: RSAKey = field(default_factory=new_key)
    signs_with: RSAKey | None = None  # the published key, if None
    sign_ins: dict[str, dict[str, str]] = field(default_factory=dict)  # by code
    url: str = ""

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "end_session_endpoint": f"{self.url}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def choice(self, query: dict[str, str]) -> str:
        """The page where one chooses."""
        assert (query["client_id"], query["response_type"]) == (CLIENT_ID, "code")
        links = [f'<a href="/chosen?{urlencode(query | {"sub": sub})}">{sub}</a>' for sub in self.accounts]
        return "<h1>Choose an account</h1>" + " ".join(links)

    def chosen(self, query: dict[str, str]) -> str:
        """Where to go back to."""
        code = secrets.token_urlsafe()
        self.sign_ins[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any]:
        """What a code is worth, once."""
        assert authorization == f"Basic {base64.b64encode(f'{CLIENT_ID}:{CLIENT_SECRET}'.encode()).decode()}"
        begun = self.sign_ins.pop(form["code"])
        assert form["redirect_uri"] == begun["redirect_uri"]
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "sub": begun["sub"], "iat": now, "exp": now + 600}
        claims |= {"nonce": begun["nonce"]} | dict(self.accounts[begun["sub"]])
        id_token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.signs_with or self.published)
        return {"id_token": id_token, "access_token": "opaque", "token_type": "Bearer", "expires_in": 600}


@contextmanager
def serve_provider(provider: Provider) -> Iterator[Provider]:
    """Let it listen on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = dict(parse_qsl(address.query))
            match address.path:
                case "/.well-known/openid-configuration":
                    self.answer(json.dumps(provider.metadata()))
                case "/keys":
                    self.answer(json.dumps({"keys": [provider.published.as_dict(private=False)]}))
                case "/authorize":
                    self.answer(provider.choice(query), "text/html")
                case "/chosen":
                    self.go_to(provider.chosen(query))
                case "/logout":
                    self.go_to(query["post_logout_redirect_uri"])
                case _:
                    self.send_error(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.answer(json.dumps(provider.token(form, self.headers["Authorization"])))

        def answer(self, body: str, kind: str = "application/json") -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        def go_to(self, url: str) -> None:
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", url)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as provider.url:
        yield provider

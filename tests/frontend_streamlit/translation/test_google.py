"""Google's own client over a real socket; the other end is a gRPC server on loopback that behaves like the service."""

import html
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

import grpc
import pytest
import requests
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request
from google.cloud import translate_v3
from google.cloud.translate_v3 import TranslateTextRequest, TranslateTextResponse
from google.cloud.translate_v3.services.translation_service.transports import TranslationServiceGrpcTransport
from google.oauth2.credentials import Credentials

from frontend_streamlit.translation import (
    Translation,
    TranslationDenied,
    TranslationEmpty,
    TranslationError,
    TranslationQuotaExceeded,
    TranslationTimedOut,
    TranslationUnavailable,
    TranslatorMisconfigured,
    google,
)
from frontend_streamlit.translation.google import GoogleTranslator
from tests import loopback

APPLE = "青い背景に赤いりんご"
ENGLISH = {APPLE: "A red apple on a blue background", "猫と犬の店": 'Cat & dog\'s "shop"', "猫": "cat"}
LOOPBACK = "127.0.0.1:0"
NO_PROXY = (("grpc.enable_http_proxy", 0),)

Answer = Callable[[TranslateTextRequest, grpc.ServicerContext], TranslateTextResponse]


class Service:
    """What Google does with a request, and what it was asked; `answers` are for the next requests, then it works."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[TranslateTextRequest] = []
        self.seconds_given: list[float] = []
        self.answers: list[Answer] = []

    def translate_text(self, request: TranslateTextRequest, context: grpc.ServicerContext) -> TranslateTextResponse:
        self.requests.append(request)
        self.seconds_given.append(context.time_remaining())
        return (self.answers.pop(0) if self.answers else translate)(request, context)

    def handlers(self) -> grpc.GenericRpcHandler:
        method = grpc.unary_unary_rpc_method_handler(
            self.translate_text, TranslateTextRequest.deserialize, TranslateTextResponse.serialize
        )
        return grpc.method_handlers_generic_handler(
            "google.cloud.translation.v3.TranslationService", {"TranslateText": method}
        )


def translate(request: TranslateTextRequest, _: grpc.ServicerContext) -> TranslateTextResponse:
    english = ["\n".join(ENGLISH[line] for line in content.split("\n")) for content in request.contents]
    if request.mime_type != "text/plain":
        english = [html.escape(text).replace("\n", " ") for text in english]
    response = response_of(*english)
    if request.glossary_config.glossary:
        response.glossary_translations = response_of(*[text.replace("cat", "Tama") for text in english]).translations
    return response


def response_of(*texts: str) -> TranslateTextResponse:
    return TranslateTextResponse(translations=[translate_v3.Translation(translated_text=text) for text in texts])


def answer_with(*texts: str) -> Answer:
    return lambda _, __: response_of(*texts)


def fail_with(code: grpc.StatusCode, message: str = "no") -> Answer:
    def fail(_: TranslateTextRequest, context: grpc.ServicerContext) -> TranslateTextResponse:
        context.abort(code, message)
        raise AssertionError

    return fail


UNAVAILABLE = fail_with(grpc.StatusCode.UNAVAILABLE)


@contextmanager
def serving(service: Service, credentials: grpc.ServerCredentials | None = None) -> Iterator[Service]:
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((service.handlers(),))
    service.port = server.add_secure_port(LOOPBACK, credentials) if credentials else server.add_insecure_port(LOOPBACK)
    server.start()
    try:
        yield service
    finally:
        server.stop(None).wait()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as started:
        yield started


@pytest.fixture
def transport(service: Service) -> Iterator[TranslationServiceGrpcTransport]:
    with grpc.insecure_channel(f"127.0.0.1:{service.port}", NO_PROXY) as channel:
        yield TranslationServiceGrpcTransport(channel=channel)


@pytest.fixture
def translator(transport: TranslationServiceGrpcTransport) -> GoogleTranslator:
    return GoogleTranslator("kotoe-1", transport=transport)


def test_a_sentence_is_translated_as_plain_text_from_japanese_to_english(
    service: Service, translator: GoogleTranslator
) -> None:
    translation = translator.translate(APPLE)
    assert translation == Translation(source=APPLE, english=ENGLISH[APPLE], translator="google")
    assert service.requests == [
        TranslateTextRequest(
            parent="projects/kotoe-1/locations/global",
            contents=[APPLE],
            mime_type="text/plain",
            source_language_code="ja",
            target_language_code="en",
        )
    ]


def test_several_lines_stay_several_lines_in_one_request(service: Service, translator: GoogleTranslator) -> None:
    assert translator.translate(f"{APPLE}\n猫").english == f"{ENGLISH[APPLE]}\ncat"
    assert len(service.requests) == 1


@pytest.mark.parametrize("answer", [translate, answer_with(html.escape(ENGLISH["猫と犬の店"]))])
def test_no_html_entity_is_left_in_the_english(service: Service, translator: GoogleTranslator, answer: Answer) -> None:
    service.answers = [answer]
    assert translator.translate("猫と犬の店").english == 'Cat & dog\'s "shop"'


def test_a_glossary_is_sent_and_its_words_are_used(
    service: Service, transport: TranslationServiceGrpcTransport
) -> None:
    translator = GoogleTranslator("kotoe-1", "us-central1", "names", transport=transport)
    assert translator.translate("猫").english == "Tama"
    [request] = service.requests
    assert request.parent == "projects/kotoe-1/locations/us-central1"
    assert request.glossary_config.glossary == "projects/kotoe-1/locations/us-central1/glossaries/names"


@pytest.mark.parametrize(("project", "glossary", "lacks"), [("", "", "project"), ("kotoe-1", "names", "region")])
def test_a_missing_project_and_a_glossary_without_a_region_are_told_without_a_request(
    service: Service, transport: TranslationServiceGrpcTransport, project: str, glossary: str, lacks: str
) -> None:
    with pytest.raises(TranslatorMisconfigured, match=lacks):
        GoogleTranslator(project, glossary=glossary, transport=transport).translate("猫")
    assert service.requests == []


@pytest.mark.parametrize("text", ["a red apple, 4K", "Ａ ＣＡＴ", "", " \n\u3000"])
def test_english_and_blanks_come_back_without_a_request(
    service: Service, translator: GoogleTranslator, text: str
) -> None:
    assert translator.translate(text) == Translation(source=text, english=text, translator="google")
    assert service.requests == []


def test_the_same_text_is_asked_for_once_however_it_is_surrounded(
    service: Service, translator: GoogleTranslator
) -> None:
    first, second = translator.translate("猫"), translator.translate(" 猫\n")
    assert (first.english, second.english, second.source) == ("cat", "cat", " 猫\n")
    assert len(service.requests) == 1


def test_the_cache_forgets_what_was_used_longest_ago(
    service: Service, transport: TranslationServiceGrpcTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google, "CACHED_TEXTS", 2)
    translator = GoogleTranslator("kotoe-1", transport=transport)
    for text in ("猫", APPLE, "猫", "猫と犬の店", "猫", APPLE):
        translator.translate(text)
    assert [request.contents[0] for request in service.requests] == ["猫", APPLE, "猫と犬の店", APPLE]


def test_two_translators_share_no_cache(service: Service, transport: TranslationServiceGrpcTransport) -> None:
    GoogleTranslator("kotoe-1", transport=transport).translate("猫")
    assert GoogleTranslator("kotoe-1", "us-central1", "names", transport=transport).translate("猫").english == "Tama"
    assert len(service.requests) == 2


@pytest.mark.parametrize("answer", [answer_with(), answer_with(""), answer_with(" \n")])
def test_an_answer_without_a_text_is_an_error(service: Service, translator: GoogleTranslator, answer: Answer) -> None:
    service.answers = [answer]
    with pytest.raises(TranslationEmpty):
        translator.translate("猫")


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        ("PERMISSION_DENIED", "Cloud Translation API has not been used in project kotoe-1", TranslationDenied),
        ("UNAUTHENTICATED", "Request had invalid authentication credentials.", TranslationDenied),
        ("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric", TranslationQuotaExceeded),
        ("PERMISSION_DENIED", "User Rate Limit Exceeded", TranslationQuotaExceeded),
        ("PERMISSION_DENIED", "Daily Limit Exceeded", TranslationQuotaExceeded),
        ("INVALID_ARGUMENT", "Invalid location name", TranslatorMisconfigured),
        ("NOT_FOUND", "Glossary not found", TranslatorMisconfigured),
        ("DEADLINE_EXCEEDED", "late", TranslationTimedOut),
        ("INTERNAL", "broken", TranslationUnavailable),
    ],
)
def test_a_lasting_error_has_its_own_type_and_is_not_asked_again(
    service: Service, translator: GoogleTranslator, code: str, message: str, error: type[TranslationError]
) -> None:
    service.answers = [fail_with(grpc.StatusCode[code], message)]
    with pytest.raises(error) as raised:
        translator.translate("猫")
    assert len(service.requests) == 1
    assert str(raised.value).isascii()
    if error is not TranslationTimedOut:
        assert message in str(raised.value)


def test_a_failed_text_can_be_tried_again(service: Service, translator: GoogleTranslator) -> None:
    service.answers = [fail_with(grpc.StatusCode.RESOURCE_EXHAUSTED)]
    with pytest.raises(TranslationQuotaExceeded):
        translator.translate("猫")
    assert translator.translate("猫").english == "cat"


def test_a_service_that_is_unavailable_for_a_moment_is_asked_again(
    service: Service, translator: GoogleTranslator
) -> None:
    service.answers = [UNAVAILABLE, UNAVAILABLE]
    assert translator.translate("猫").english == "cat"
    assert len(service.requests) == 3


def test_an_error_after_a_retry_is_the_one_that_is_told(service: Service, translator: GoogleTranslator) -> None:
    service.answers = [UNAVAILABLE, fail_with(grpc.StatusCode.RESOURCE_EXHAUSTED)]
    with pytest.raises(TranslationQuotaExceeded):
        translator.translate("猫")


def test_a_service_that_stays_unavailable_is_given_up_before_the_deadline(
    service: Service, translator: GoogleTranslator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google, "DEADLINE_S", 2.0)
    service.answers = [UNAVAILABLE] * 1000
    started_at = time.monotonic()
    with pytest.raises(TranslationUnavailable):
        translator.translate("猫")
    assert time.monotonic() - started_at < 10  # the retries alone would never end
    assert len(service.requests) > 1


def test_an_address_where_nobody_listens_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google, "DEADLINE_S", 0.5)
    with serving(Service()) as gone:
        pass
    with grpc.insecure_channel(f"127.0.0.1:{gone.port}", NO_PROXY) as channel:
        translator = GoogleTranslator("kotoe-1", transport=TranslationServiceGrpcTransport(channel=channel))
        with pytest.raises(TranslationUnavailable):
            translator.translate("猫")


def test_an_answer_that_does_not_come_is_waited_for_until_the_deadline(
    service: Service, translator: GoogleTranslator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google, "DEADLINE_S", 0.3)
    done = Event()
    service.answers = [lambda request, context: (done.wait(10), translate(request, context))[1]]
    started_at = time.monotonic()
    with pytest.raises(TranslationTimedOut):
        translator.translate("猫")
    assert time.monotonic() - started_at < 3  # and not the ten seconds; a loaded machine is slow
    done.set()


def test_every_request_carries_a_deadline_of_ten_seconds(service: Service, translator: GoogleTranslator) -> None:
    service.answers = [UNAVAILABLE]
    translator.translate("猫")
    assert [5 < seconds <= 10 for seconds in service.seconds_given] == [True, True]


@pytest.mark.parametrize("file", [None, "absent.json", "broken.json"])
def test_missing_credentials_are_told_with_what_to_do(
    file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.json").write_text("{")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # asks an address outside this machine
    if file:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / file))
    with pytest.raises(TranslatorMisconfigured, match="gcloud auth application-default login"):
        GoogleTranslator("kotoe-1").translate("猫")


class TokenServer(BaseHTTPRequestHandler):
    """Answers every request for a token as Google does after the login was revoked."""

    def do_POST(self) -> None:
        body = b'{"error": "invalid_grant", "error_description": "Token has been expired or revoked."}'
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def revoked() -> Iterator[Credentials]:
    with loopback.serving(TokenServer) as url:
        yield Credentials(None, refresh_token="r", token_uri=f"{url}/token", client_id="i", client_secret="s")  # type: ignore[no-untyped-call]  # google-auth has no types here


def test_a_revoked_login_is_a_refusal_although_the_channel_calls_it_unavailable(revoked: Credentials) -> None:
    with ExitStack() as stack:
        service = stack.enter_context(serving(Service(), grpc.local_server_credentials()))
        session = stack.enter_context(requests.Session())
        login = grpc.metadata_call_credentials(AuthMetadataPlugin(revoked, Request(session)))  # type: ignore[no-untyped-call]  # google-auth has no types here
        secure = grpc.composite_channel_credentials(grpc.local_channel_credentials(), login)
        channel = stack.enter_context(grpc.secure_channel(f"127.0.0.1:{service.port}", secure, NO_PROXY))
        translator = GoogleTranslator("kotoe-1", transport=TranslationServiceGrpcTransport(channel=channel))
        started_at = time.monotonic()
        with pytest.raises(TranslationDenied, match="expired or revoked"):
            translator.translate("猫")
        assert time.monotonic() - started_at < google.DEADLINE_S / 2  # not asked again until it gives up
        assert service.requests == []


def test_importing_the_translator_imports_none_of_googles_libraries() -> None:
    code = "import sys, frontend_streamlit.translation.google; sys.exit(bool({'google', 'grpc'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

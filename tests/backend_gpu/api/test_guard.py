"""Who may call, and what may be asked for."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from backend_gpu.errors import ContentRefused, InvalidRequest
from backend_gpu.jobs.blocklist import Blocklist
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of, running_service
from tests.backend_gpu.fake_engine import MAX_TOKENS
from tests.backend_gpu.waiting import wait_until

TOKEN = "s3cret-token"
OPEN = {"/healthz", "/readyz"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("guarded"), token=TOKEN) as running:
        yield running


def paths_of(running: RunningService) -> set[tuple[str, str]]:
    """Method and path of every route, the page's own included."""
    document = running.http.get("/openapi.json").json()
    listed = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    return listed | {("GET", "/openapi.json"), ("GET", "/docs")}


def filled(path: str) -> str:
    names = {"job_id": "0" * 32, "index": "0", "image_format": "png", "model_id": "kotoe-mini"}
    return re.sub(r"{(\w+)}", lambda match: names[match[1]], path)


WRONG = [
    b"",
    b"Bearer",
    b"Bearer wrong",
    f"Bearer {TOKEN}x".encode(),
    f"Bearer {TOKEN[:-1]}".encode(),
    f"Basic {TOKEN}".encode(),
    TOKEN.encode(),
    "Bearer あ".encode(),
]


@pytest.mark.parametrize("authorization", [None, *WRONG])
def test_no_route_but_the_probes_answers_without_the_token(
    guarded: RunningService, authorization: bytes | None
) -> None:
    headers = {} if authorization is None else {b"Authorization": authorization}
    answers = {}
    with httpx.Client(base_url=guarded.url) as http:
        for method, path in paths_of(guarded):
            answers[path] = http.request(method, filled(path), headers=headers)
    refused = {path for path, answer in answers.items() if answer.status_code == 401}
    assert refused == set(answers) - OPEN
    for path in refused:
        assert error_of(answers[path], 401, "invalid_api_key")["type"] == "authentication_error"
        assert answers[path].headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answers[path].text


def test_every_route_answers_with_the_token(guarded: RunningService) -> None:
    for method, path in paths_of(guarded):
        assert guarded.http.request(method, filled(path)).status_code in (200, 400, 404)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b" " * 1_000_000, "application/json"),
        (b"\xff", "text/plain"),
        (b"", ""),
        (b"[" * 60_000, "application/json"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/images/generations", "/v1/images/edits", "/v1/nothing", "/nothing", "/v1/jobs/x/cancel"]
)
def test_the_token_is_asked_for_before_anything_is_read(
    guarded: RunningService, path: str, body: bytes, kind: str
) -> None:
    answer = httpx.post(f"{guarded.url}{path}", content=body, headers={"Content-Type": kind})
    error_of(answer, 401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_wrong_method_is_told_only_to_those_with_the_token(guarded: RunningService) -> None:
    assert httpx.delete(f"{guarded.url}/v1/jobs").status_code == 401
    assert guarded.http.delete("/v1/jobs").status_code == 405


@pytest.mark.parametrize("path", ["/v1/jobs/x/images/0.png?signature=", "/v1/jobs/x/images/?signature=1"])
def test_a_signature_opens_no_path_that_is_no_picture(guarded: RunningService, path: str) -> None:
    assert httpx.get(f"{guarded.url}{path}").status_code == 401


def test_a_refused_submission_makes_no_job(guarded: RunningService) -> None:
    answer = httpx.post(f"{guarded.url}/v1/jobs", json={"prompt": "a", "owner": "nobody"})
    assert answer.status_code == 401
    assert guarded.store.of_owner("nobody", 1) == []


def test_without_a_token_everything_is_open(shared: RunningService) -> None:
    assert shared.http.get("/v1/status").status_code == 200
    assert shared.http.get("/v1/status", headers={"Authorization": "Bearer whatever"}).status_code == 200


@pytest.fixture(scope="module")
def signed_url(guarded: RunningService) -> str:
    """A picture's URL as the OpenAI face gives it."""
    body = {"prompt": "a red apple", "response_format": "url", "n": 2}
    url = guarded.http.post("/v1/images/generations", json=body).json()["data"][0]["url"]
    assert url.startswith(guarded.url)
    return str(url)


def test_a_signed_url_needs_no_token(signed_url: str) -> None:
    answer = httpx.get(signed_url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert 3000 < int(parse_qs(urlsplit(signed_url).query)["expires"][0]) - time.time() <= 3600


def test_a_signed_url_expires(signed_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr("backend_gpu.api.signed_urls.time.time", lambda: now + 3601)
    error_of(httpx.get(signed_url), 401, "invalid_api_key")


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (r"images/0", "images/1"),
        (r"jobs/[0-9a-f]{32}", "jobs/" + "0" * 32),
        (r"expires=\d+", "expires=99999999999"),
        (r"expires=\d+", "expires=" + "9" * 400),
        (r"signature=.", "signature=g"),
        (r"signature=[0-9a-f]+", "signature="),
        (r"signature=[0-9a-f]+", "signature=%E3%81%82"),
        (r"&?signature=[0-9a-f]+", ""),
        (r"expires=\d+&?", ""),
    ],
)
def test_a_signed_url_is_good_for_nothing_else(signed_url: str, part: str, other: str) -> None:
    changed, count = re.subn(part, other, signed_url)
    assert count == 1
    error_of(httpx.get(changed), 401, "invalid_api_key")


def test_a_signed_url_opens_no_other_route(guarded: RunningService, signed_url: str) -> None:
    query = urlsplit(signed_url).query
    job_id = signed_url.split("/")[5]
    assert httpx.get(f"{guarded.url}/v1/jobs/{job_id}?{query}").status_code == 401


def test_another_token_makes_old_urls_worthless(guarded: RunningService, signed_url: str, tmp_path: Path) -> None:
    with running_service(tmp_path, token="another") as running:
        error_of(httpx.get(signed_url.replace(guarded.url, running.url)), 401, "invalid_api_key")


def test_without_a_token_urls_are_not_signed(shared: RunningService) -> None:
    body = {"prompt": "a red apple", "response_format": "url"}
    url = shared.http.post("/v1/images/generations", json=body).json()["data"][0]["url"]
    assert "signature" not in url
    assert httpx.get(url).status_code == 200


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with a blocklist."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "terms.txt").write_text(
        "# a comment\n\n  Gun \n銃\n爆弾\nblood bath\nc++\n  # another\n", encoding="utf-8"
    )
    with running_service(folder / "data", blocklist=folder / "terms.txt") as running:
        yield running


@pytest.mark.parametrize(
    "prompt",
    [
        "a gun",
        "GUN",
        "a gun, a dog",
        "gun-shaped",
        "a \uff47\uff55\uff4e",
        "blood  bath",
        "a blood\nbath",
        "a c++ book",
        "a gu\u200bn",
        "a g\u00adu\u2060n",
        "\ufeffg\u202eu\u200en\u034f",
        "dog\u200bgun",
        "blood\u200bbath",
        "a g\u3164un",
        "a gu\U000e0020n",
        "a gu\tn",
    ],
)
@pytest.mark.parametrize("param", ["prompt", "negative_prompt", "source_prompt"])
def test_a_blocked_english_term_is_refused_as_a_whole_word(strict: RunningService, prompt: str, param: str) -> None:
    answer = strict.http.post("/v1/jobs", json={"prompt": "a red apple"} | {param: prompt})
    assert error_of(answer, 400, "content_policy_violation")["param"] == param


@pytest.mark.parametrize(
    "prompt", ["a begun apple", "gunnera", "a shogun", "blood orange, bath", "c+", "another comment"]
)
def test_a_blocked_term_inside_another_word_is_drawn(strict: RunningService, prompt: str) -> None:
    assert strict.http.post("/v1/jobs", json={"prompt": prompt}).status_code == 202


@pytest.mark.parametrize(
    "source", ["銃", "拳銃を持つ猫", "赤い銃", "gunを持つ猫", "猫とgun", "赤い\u200b銃", "猫とg\u00adun"]
)
def test_a_blocked_term_is_refused_anywhere_in_japanese(strict: RunningService, source: str) -> None:
    answer = strict.http.post("/v1/jobs", json={"prompt": "a red cat", "source_prompt": source})
    assert error_of(answer, 400, "content_policy_violation")["param"] == "source_prompt"


@pytest.mark.parametrize(
    "unseen", ["\u200b", "\u00ad", "\u2060", "\ufeff", "\u200e", "\u202e", "\u034f", "\ufe0f", "\u200d"]
)
def test_a_blocked_term_is_refused_whatever_unseen_character_is_in_it(strict: RunningService, unseen: str) -> None:
    for source in (f"爆{unseen}弾", f"{unseen}爆弾を", f"赤い爆{unseen * 3}弾", "爆\t弾"):
        answer = strict.http.post("/v1/jobs", json={"prompt": "a red cat", "source_prompt": source})
        assert error_of(answer, 400, "content_policy_violation")["param"] == "source_prompt"


def test_a_term_of_unseen_characters_alone_refuses_nothing() -> None:
    Blocklist(["\u200b", "gun"]).check("a cat", "prompt")
    with pytest.raises(ContentRefused):
        Blocklist(["g\u200bun"]).check("a gun", "prompt")


def test_the_openai_face_has_the_same_blocklist(strict: RunningService) -> None:
    answer = strict.http.post("/v1/images/generations", json={"prompt": "a gun"})
    assert error_of(answer, 400, "content_policy_violation")["type"] == "invalid_request_error"


def test_a_blocklist_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "terms").write_bytes("\ufeffgun\r\ndog\r\n".encode())
    blocklist = Blocklist.read(tmp_path / "terms")
    for text in ("a gun", "a dog"):
        with pytest.raises(ContentRefused):
            blocklist.check(text, "prompt")


def test_no_blocklist_and_an_empty_one_refuse_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n\n")
    for path in (None, tmp_path / "empty"):
        Blocklist.read(path).check("a gun 銃", "prompt")


@pytest.mark.parametrize("name", ["missing", ".", "latin"])
def test_a_blocklist_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(InvalidRequest, match="can't read the blocklist"):
        Blocklist.read(tmp_path / name)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize("prompt", ["青い背景に赤いりんご", "an apple と a cat", "々", "ｱｯﾌﾟﾙ", "𠮷"])
def test_a_japanese_prompt_is_told_that_prompts_are_english(shared: RunningService, path: str, prompt: str) -> None:
    error = error_of(shared.http.post(path, json={"prompt": prompt}), 400, "invalid_prompt")
    assert "prompts are English" in error["message"]
    assert error["param"] == "prompt"


def test_a_japanese_negative_prompt_is_told_by_name(shared: RunningService) -> None:
    answer = shared.http.post("/v1/jobs", json={"prompt": "an apple", "negative_prompt": "猫"})
    assert error_of(answer, 400, "invalid_prompt")["param"] == "negative_prompt"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize("param", ["prompt", "negative_prompt"])
def test_a_prompt_of_too_many_tokens_is_told_with_both_numbers(shared: RunningService, path: str, param: str) -> None:
    answer = shared.http.post(path, json={"prompt": "an apple"} | {param: "word " * (MAX_TOKENS + 3)})
    error = error_of(answer, 400, "invalid_prompt")
    assert f"{MAX_TOKENS + 3} tokens" in error["message"]
    assert f"at most {MAX_TOKENS}" in error["message"]
    assert error["param"] == param


@pytest.mark.parametrize("prompt", [" ", "\n\t", "\u3000"])
def test_a_prompt_of_spaces_is_empty(shared: RunningService, prompt: str) -> None:
    error_of(shared.http.post("/v1/jobs", json={"prompt": prompt}), 400, "invalid_prompt")


def test_user_text_stays_out_of_file_names_and_cannot_break_the_record(serve: Serve, tmp_path: Path) -> None:
    nasty = "'; DROP TABLE jobs; -- ../../etc/passwd %s {x} <b>"
    with serve(gallery=str(tmp_path / "gallery")) as running:
        job = running.wait_for(running.submit(prompt=nasty, source_prompt=nasty, negative_prompt=nasty)["id"])
        wait_until(lambda: running.store.get(job["id"]).is_delivered)
        assert job["request"]["prompt"] == nasty
        (path,) = (tmp_path / "gallery").rglob("*.png")
    assert re.fullmatch(r"\d{8}T\d{6}_[0-9a-f]{32}_0\.png", path.name)
    assert path.parent == tmp_path / "gallery" / "anonymous"

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from frontend_streamlit.clients import backend as backend_client
from frontend_streamlit.clients.backend import (
    ERROR_OF,
    BackendBroken,
    BackendClient,
    BackendError,
    BackendUnavailable,
    BackendUnreachable,
    Job,
    JobMissing,
    JobRequest,
    Progress,
    QueueFull,
)
from tests.frontend_streamlit.fake_backend import CHOICES, CUT, PIXEL, Answer, FakeBackend, job_document, serve


def only_job(client: BackendClient) -> Job:
    [job] = client.list_jobs("anonymous", 5)
    return job


REQUEST = JobRequest(prompt="a red apple", owner="me", source_prompt="赤いりんご", translator="offline", n=2)


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    with serve(FakeBackend()) as fake:
        yield fake


@pytest.fixture
def client(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> BackendClient:
    monkeypatch.setattr(backend_client, "SUBMIT_PAUSES_S", (0.0, 0.0))
    return BackendClient(backend.url, "secret")


def test_a_submission_is_told_whole_and_choices_left_open_are_left_out(
    client: BackendClient, backend: FakeBackend
) -> None:
    job = client.submit(REQUEST)
    [(_, _, headers, body)] = backend.requests
    assert body == {
        "prompt": "a red apple",
        "owner": "me",
        "source_prompt": "赤いりんご",
        "translator": "offline",
        "n": 2,
    }
    assert headers["Authorization"] == "Bearer secret"
    assert (job.status, job.position, job.request.seed) == ("queued", 1, 7)
    assert not job.has_ended


def test_a_request_that_came_back_is_sent_again_with_all_its_choices_for_a_new_seed(
    client: BackendClient, backend: FakeBackend
) -> None:
    backend.jobs = [job_document(1, "failed", request={"invented_tomorrow": 1.5})]
    came = backend.jobs[0]["request"]
    client.submit(only_job(client).request.with_new_seed())
    assert backend.requests[-1][3] == {name: came[name] for name in came.keys() - {"seed"}}


@pytest.mark.parametrize(
    "trouble", [CUT, Answer(502, b"<html>Bad Gateway</html>"), Answer.error(503, "service_stopping")]
)
def test_a_submission_whose_answer_is_lost_is_sent_again_with_its_key_and_makes_one_job(
    client: BackendClient, backend: FakeBackend, trouble: Answer
) -> None:
    backend.answer_with(trouble, "/v1/jobs", times=2)
    client.submit(REQUEST)
    keys = {headers["Idempotency-Key"] for _, _, headers, _ in backend.requests}
    assert (len(backend.requests), len(keys), len(backend.jobs)) == (3, 1, 1)


def test_submissions_have_keys_of_their_own_unless_one_is_given(client: BackendClient) -> None:
    first, second = client.submit(REQUEST), client.submit(REQUEST)
    assert first.id != second.id
    assert client.submit(REQUEST, "k" * 32).id == client.submit(REQUEST, "k" * 32).id


def test_choices_for_another_model_are_left_out_and_two_tabs_still_make_one_job(
    client: BackendClient, backend: FakeBackend
) -> None:
    request = REQUEST.model_copy(update={"model": "another", "steps": 99})
    assert client.submit(request, "k" * 32).id == client.submit(request, "k" * 32).id
    [job] = backend.jobs
    assert (job["request"]["prompt"], job["request"]["steps"]) == (REQUEST.prompt, CHOICES["steps"])


def test_a_submission_gives_up_after_three_tries(client: BackendClient, backend: FakeBackend) -> None:
    backend.answer_with(CUT)
    with pytest.raises(BackendUnavailable):
        client.submit(REQUEST)
    assert len(backend.requests) == 3


@pytest.mark.parametrize("code", sorted(ERROR_OF.keys() - {"service_stopping", "too_many_connections"}))
def test_every_code_becomes_its_error_without_another_try(
    client: BackendClient, backend: FakeBackend, code: str
) -> None:
    backend.answer_with(Answer.error(400, code, Retry_After="30"))
    with pytest.raises(BackendError) as caught:
        client.submit(REQUEST)
    assert type(caught.value) is ERROR_OF[code]
    assert str(caught.value) == f"{code} happened"
    assert caught.value.retry_after_s == 30.0
    assert len(backend.requests) == 1


@pytest.mark.parametrize("code", ["internal_error", "gallery_unavailable", "invented_tomorrow", ""])
def test_an_unknown_code_is_the_backends_own_trouble(client: BackendClient, backend: FakeBackend, code: str) -> None:
    backend.answer_with(Answer.error(500, code))
    with pytest.raises(BackendBroken):
        client.submit(REQUEST)
    assert len(backend.requests) == 1


@pytest.mark.parametrize("wait", ["soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", ""])
def test_a_time_to_wait_that_is_no_number_is_ignored(client: BackendClient, backend: FakeBackend, wait: str) -> None:
    backend.answer_with(Answer.error(429, "queue_full", Retry_After=wait))
    with pytest.raises(QueueFull) as caught:
        client.submit(REQUEST)
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(
    "garbage",
    [b"", b"<html>hello</html>", b"\xff\xfe", b"[]", b"null", b"3", b"{}", b'{"data": null}', b'{"data": [{"id": 1}]}'],
)
def test_an_answer_that_nobody_understands_is_an_error_of_the_backend(
    client: BackendClient, backend: FakeBackend, garbage: bytes
) -> None:
    backend.answer_with(Answer(200, garbage))
    for ask in (client.read_status, lambda: client.list_jobs("me", 5), lambda: client.cancel("0" * 32)):
        with pytest.raises(BackendBroken):
            ask()
    with pytest.raises(BackendBroken):
        client.submit(REQUEST)


@pytest.mark.parametrize("body", [b"", b"Service Unavailable", b"[]", b'{"error": "no"}', b'{"detail": "Not Found"}'])
def test_an_error_that_is_not_the_backends_means_that_it_is_unavailable(
    client: BackendClient, backend: FakeBackend, body: bytes
) -> None:
    backend.answer_with(Answer(503, body))
    with pytest.raises(BackendUnavailable):
        client.read_status()


def test_a_redirect_is_not_followed_with_the_token(client: BackendClient, backend: FakeBackend) -> None:
    backend.answer_with(Answer(302, b"", {"Location": "/v1/status"}), times=1)
    with pytest.raises(BackendUnavailable):
        client.read_status()
    assert len(backend.requests) == 1


def test_a_silent_backend_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = BackendClient(f"http://127.0.0.1:{listener.getsockname()[1]}", timeouts_s=(0.2, 0.2))
        started_at = time.monotonic()
        with pytest.raises(BackendUnavailable):
            client.read_status()
        assert time.monotonic() - started_at < 2


def test_an_address_that_swallows_packets_is_tried_once_and_not_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as first:
        address = listener.getsockname()
        first.connect(address)  # the queue is full: the next connection gets no answer, as from a machine that is off
        with socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            client = BackendClient(f"http://127.0.0.1:{address[1]}", timeouts_s=(0.2, 0.2))
            started_at = time.monotonic()
            with pytest.raises(BackendUnreachable):
                client.submit(REQUEST)
            assert time.monotonic() - started_at < 2


def test_a_port_where_nobody_listens_is_a_backend_that_does_not_answer(client: BackendClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client.url = f"http://127.0.0.1:{port}"
    for ask in (client.read_status, lambda: client.submit(REQUEST), lambda: client.cancel("0" * 32)):
        with pytest.raises(BackendUnavailable):
            ask()


def test_a_proxy_in_the_environment_is_not_asked(client: BackendClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert client.read_status().model == "kotoe-mini"


def test_a_running_job_is_read_with_its_progress_and_preview(client: BackendClient, backend: FakeBackend) -> None:
    progress = {"stage": "base", "step": 3, "total_steps": 20, "fraction": 0.12}
    backend.jobs = [job_document(1, "running", progress=progress, preview=PIXEL, eta_seconds=4.5)]
    job = only_job(client)
    assert job.progress == Progress("base", 3, 20, 0.12)
    assert (job.preview, job.eta_s, job.has_ended) == (PIXEL, 4.5, False)


def test_a_failed_job_tells_its_code(client: BackendClient, backend: FakeBackend) -> None:
    error = {"message": "died twice", "type": "server_error", "param": None, "code": "engine_crashed"}
    backend.jobs = [job_document(1, "failed", error=error)]
    assert only_job(client).error_code == "engine_crashed"


def test_only_the_owners_jobs_are_asked_for(client: BackendClient, backend: FakeBackend) -> None:
    backend.jobs = [job_document(2, "queued", request={"owner": "me"}), job_document(1, "queued")]
    assert [job.request.owner for job in client.list_jobs("me", 5)] == ["me"]
    assert backend.requests[0][1] == "/v1/jobs?owner=me&limit=5"


def test_pictures_come_as_they_are_and_missing_ones_as_missing(client: BackendClient, backend: FakeBackend) -> None:
    backend.jobs, backend.png = [job_document(1, "succeeded")], b"\x89PNG..."
    [image] = only_job(client).images
    assert client.read_picture(image) == backend.png
    backend.jobs = []
    with pytest.raises(JobMissing):
        client.read_picture(image)


def test_fields_that_the_backend_adds_later_do_no_harm(client: BackendClient, backend: FakeBackend) -> None:
    progress = {"stage": "base", "step": 3, "total_steps": 20, "fraction": 0.12, "new": 1}
    backend.jobs = [job_document(1, "running", progress=progress, new="field")]
    backend.status["new"] = "field"
    assert only_job(client).status == "running"
    assert client.read_status().is_ready


def test_one_client_serves_several_threads(backend: FakeBackend) -> None:
    client = BackendClient(backend.url)
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(client.read_status().is_ready)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 16


def test_a_model_is_asked_for_by_its_name_and_read(client: BackendClient, backend: FakeBackend) -> None:
    backend.model["id"] = "a/model of ours"
    backend.answer_with(Answer.of(backend.model), "/v1/models/a%2Fmodel%20of%20ours")
    model = client.read_model("a/model of ours")
    assert [stage.name for stage in model.stages] == ["base", "upsample"]
    assert model.guidance is not None
    assert (model.samplers[0], model.guidance.default, model.has_negative_prompt) == ("dpmpp_2m", 2.5, True)


def test_a_description_that_nobody_understands_is_an_error_of_the_backend(
    client: BackendClient, backend: FakeBackend
) -> None:
    del backend.model["stages"]
    with pytest.raises(BackendBroken):
        client.read_model("kotoe-mini")

"""The native face: jobs from submission to picture."""

import io
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import piexif
import pytest
from piexif.helper import UserComment
from PIL import ExifTags, Image, PngImagePlugin

from backend_gpu.engine import Drawing
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of
from tests.backend_gpu.fake_engine import FakeEngine, picture
from tests.backend_gpu.waiting import wait_until

UNKNOWN_ID = "0" * 32
JOB_FIELDS = {
    *("id", "status", "request", "created_at", "started_at", "finished_at", "position", "eta_seconds"),
    *("progress", "preview", "images", "error", "unknown_words"),
}
REQUEST = {
    "prompt": "a red apple",
    "source_prompt": "赤いりんご",
    "translator": "offline",
    "negative_prompt": "a dog",
    "n": 2,
    "seed": 2**32 - 1,
    "guidance_scale": 4.5,
    "steps": 7,
    "upsample_steps": 3,
    "sampler": "ddim",
    "upscale": False,
    "owner": "Taro_1-x",
}
owners = (f"owner-{number}" for number in itertools.count())


@pytest.fixture
def owner() -> str:
    return next(owners)


@pytest.fixture
def held(serve: Serve) -> Iterator[RunningService]:
    """A service whose engine stands still."""
    with serve() as running:
        running.engine.hold()
        yield running


def png_of(running: RunningService, url: str) -> PngImagePlugin.PngImageFile:
    answer = running.http.get(url)
    assert answer.status_code == 200, answer.text
    return PngImagePlugin.PngImageFile(io.BytesIO(answer.content))


def test_a_submission_is_accepted_with_the_whole_job_document(shared: RunningService) -> None:
    answer = shared.http.post("/v1/jobs", json=REQUEST)
    job = answer.json()
    assert answer.status_code == 202
    assert set(job) == JOB_FIELDS
    assert job["request"] == REQUEST | {"model": "kotoe-mini"}
    assert len(job["id"]) == 32
    assert abs(job["created_at"] - time.time()) < 60


def test_a_job_names_the_words_that_the_model_does_not_know_after_a_restart_too(serve: Serve) -> None:
    engine = FakeEngine()
    engine.unknown_words = ["want", "café", "hat"]
    with serve(engine=engine) as running:
        job = running.submit(prompt="I want a café", negative_prompt="want hat")
        assert job["unknown_words"] == ["want", "café", "hat"]
        assert running.submit(prompt="a red apple")["unknown_words"] == []
    with serve() as running:
        assert running.job(job["id"])["unknown_words"] == ["want", "café", "hat"]


def test_what_the_caller_leaves_open_is_the_models_choice(shared: RunningService) -> None:
    request = shared.submit(prompt="a red apple")["request"]
    seed = request.pop("seed")
    assert 0 <= seed < 2**32
    assert request == {
        "prompt": "a red apple",
        "source_prompt": "",
        "translator": "",
        "negative_prompt": "",
        "n": 1,
        "guidance_scale": 2.5,
        "steps": 10,
        "upsample_steps": 4,
        "sampler": "dpmpp_2m",
        "upscale": True,
        "owner": "anonymous",
        "model": "kotoe-mini",
    }


def test_seeds_left_open_differ(shared: RunningService) -> None:
    assert len({shared.submit()["request"]["seed"] for _ in range(4)}) == 4


def test_an_accepted_job_is_in_the_store_before_the_answer(held: RunningService) -> None:
    job = held.submit()
    assert held.store.get(job["id"]).request.prompt == "a red apple"


def test_a_queued_job_tells_its_place_and_nothing_of_drawing(held: RunningService) -> None:
    first = held.submit(steps=3)
    held.wait_for(first["id"], "running")
    waiting = [held.submit(steps=steps) for steps in (4, 5)]  # other steps: another batch
    assert [held.job(job["id"])["position"] for job in waiting] == [1, 2]
    job = held.job(waiting[0]["id"])
    assert job["status"] == "queued"
    assert job["images"] == []
    for field in ("started_at", "finished_at", "progress", "preview", "error"):
        assert job[field] is None


def test_a_running_job_tells_its_progress_and_shows_a_preview(serve: Serve) -> None:
    with serve() as running:
        running.engine.hold()
        job_id = running.submit()["id"]
        running.engine.wait_for_step()
        running.engine.allow(2)
        job = running.job(job_id)
    assert job["status"] == "running"
    assert job["position"] is None
    assert job["started_at"] >= job["created_at"]
    assert set(job["progress"]) == {"stage", "step", "total_steps", "fraction"}
    assert job["progress"]["stage"] in ("base", "upsample")
    assert 0 < job["progress"]["fraction"] <= 1
    assert job["preview"].startswith("data:image/png;base64,iVBOR")


def test_a_job_that_succeeded_lists_its_pictures_and_no_progress(shared: RunningService) -> None:
    job = shared.wait_for(shared.submit(n=3, seed=2**32 - 1)["id"])
    assert job["status"] == "succeeded"
    assert job["images"] == [
        {"index": index, "seed": seed, "url": f"/v1/jobs/{job['id']}/images/{index}.png"}
        for index, seed in enumerate((2**32 - 1, 0, 1))
    ]
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    for field in ("position", "eta_seconds", "progress", "preview", "error"):
        assert job[field] is None


def test_pictures_are_what_the_engine_drew_with_their_record(shared: RunningService) -> None:
    job = shared.wait_for(shared.submit(**REQUEST | {"owner": "records"})["id"])
    for image, seed in zip(job["images"], (2**32 - 1, 0), strict=True):
        drawing = Drawing(prompt="a red apple", seed=seed, guidance_scale=4.5, negative_prompt="a dog")
        with png_of(shared, image["url"]) as png:
            assert png.tobytes() == picture(drawing, 64).tobytes()
            assert f"Seed: {seed}" in str(png.text["parameters"])
            assert "赤いりんご" in str(png.text["kotoe"])


def test_a_request_read_back_can_be_sent_again(shared: RunningService) -> None:
    first = shared.wait_for(shared.submit(**REQUEST | {"owner": "again"})["id"])
    again = shared.wait_for(shared.submit(**first["request"])["id"])
    pictures = [shared.http.get(job["images"][0]["url"]).content for job in (first, again)]
    assert pictures[0] == pictures[1]


WRONG_VALUES: dict[str, list[object]] = {
    "seed": [True, False, "7", "", "random", 7.5, -2, 2**32, [7], {}],
    "n": [True, "2", 1.5, 0, 9, ""],
    "steps": [True, "10", 0, 1.5],
    "upsample_steps": [True, "10"],
    "guidance_scale": [True, "3", 0.5, 21],
    "prompt": [1, True, None, ["a cat"], {"text": "a cat"}, "\ud800", "a \udfff cat"],
    "negative_prompt": [1, "\ud800"],
    "source_prompt": [1, "\ud83d", "\udc00\ud800"],
    "model": [1, "\ud800"],
    "sampler": [1, "\ud800"],
}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field in WRONG_VALUES for value in WRONG_VALUES[field]]
)
def test_a_value_of_another_type_is_refused_by_its_name(
    shared: RunningService, path: str, field: str, value: object
) -> None:
    body = json.dumps({"prompt": "a red apple"} | {field: value})  # ASCII, with lone surrogates as JSON writes them
    answer = shared.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert error_of(answer, 400, "invalid_value")["param"].split(".")[0] == field


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", {"translator": "\ud800"}),
        ("/v1/jobs", {"owner": "\ud800"}),
        ("/v1/jobs", {"owner": "a\u0000b"}),
        ("/v1/jobs", {"\ud800": 1}),
        ("/v1/jobs", {"upscale": "yes"}),
        ("/v1/jobs", {"upscale": 1}),
        ("/v1/images/generations", {"user": "\ud800"}),
        ("/v1/images/generations", {"safety_identifier": "\ud800"}),
        ("/v1/images/generations", {"size": "\ud800"}),
        ("/v1/images/generations", {"output_format": "\ud800"}),
        ("/v1/images/generations", {"style": "\ud800"}),
        ("/v1/images/generations", {"metadata": {"deep": ["\udc00"]}}),
        ("/v1/images/generations", {"\ud800": 1}),
        ("/v1/images/generations", {"stream": "true"}),
        ("/v1/images/generations", {"stream": 1}),
        ("/v1/images/generations", {"output_compression": "90"}),
        ("/v1/images/generations", {"stream": True, "partial_images": True}),
    ],
)
def test_half_a_character_and_wrong_types_are_refused_in_any_field(
    shared: RunningService, path: str, body: dict[str, object]
) -> None:
    content = json.dumps({"prompt": "a red apple"} | body)
    answer = shared.http.post(path, content=content, headers={"Content-Type": "application/json"})
    error_of(answer, 400, "invalid_value")


@pytest.mark.parametrize("path", ["/v1/models/%ed%a0%80", "/v1/jobs/%00", "/v1/jobs?owner=%ed%a0%80", "/v1/%ed%a0%80"])
def test_half_a_character_in_an_address_is_refused(shared: RunningService, path: str) -> None:
    assert shared.http.get(path).status_code in (400, 404)


@pytest.mark.parametrize("seed", [-1, None])
def test_a_seed_of_minus_one_or_null_is_random(shared: RunningService, seed: int | None) -> None:
    seeds = {shared.submit(seed=seed)["request"]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_whole_number_may_be_written_with_a_point(shared: RunningService) -> None:
    assert shared.submit(seed=7.0, n=1.0)["request"]["seed"] == 7


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "source_prompt", "translator"])
@pytest.mark.parametrize("control", ["\0", "\x07", "\x1b[31m", "\x7f", "\x80", "\x9b"])
def test_control_characters_are_refused_in_every_text(shared: RunningService, field: str, control: str) -> None:
    for path in ["/v1/jobs"] if field == "translator" else ["/v1/jobs", "/v1/images/generations"]:
        answer = shared.http.post(path, json={"prompt": "a"} | {field: f"a red{control} apple"})
        error = error_of(answer, 400, "invalid_value")
        assert error["param"] == field
        assert f"U+{ord(control[0]):04X}" in error["message"]


def test_line_ends_of_other_programs_are_spaces(shared: RunningService) -> None:
    typed = "a red\x0bapple\x0cand\x85a\x1ccat\tand\r\na dog"
    job = shared.wait_for(shared.submit(prompt=typed, source_prompt=typed)["id"])
    assert job["request"]["prompt"] == "a red apple and a cat\tand\r\na dog"
    with png_of(shared, job["images"][0]["url"]) as png:
        assert png.text["parameters"].startswith("a red apple and a cat and a dog\nSteps: ")


def test_a_key_with_control_characters_is_refused(shared: RunningService) -> None:
    answer = shared.http.post("/v1/jobs", json={"prompt": "a"}, headers={b"Idempotency-Key": b"a\x1bb"})
    assert answer.status_code == 400


def test_another_model_than_the_one_that_draws_is_refused(shared: RunningService) -> None:
    answer = shared.http.post("/v1/jobs", json={"prompt": "a red apple", "model": "glide"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert "kotoe-mini" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_a_picture_in_another_format_has_the_same_record_as_exif(shared: RunningService, name: str) -> None:
    job = shared.wait_for(shared.submit(source_prompt="赤いりんご", negative_prompt="a café")["id"])
    answer = shared.http.get(f"/v1/jobs/{job['id']}/images/0.{name}")
    with Image.open(io.BytesIO(answer.content)) as image, png_of(shared, job["images"][0]["url"]) as png:
        exif = image.getexif()
        read_by_others = piexif.load(answer.content)["Exif"][piexif.ExifIFD.UserComment]
        assert UserComment.load(read_by_others) == png.text["parameters"]
        assert json.loads(exif[ExifTags.Base.ImageDescription]) == json.loads(png.text["kotoe"])
        assert "赤いりんご" in png.text["kotoe"]


@pytest.mark.parametrize(("name", "side"), [("png", 256), ("webp", 512), ("jpeg", 1024), ("png", 64)])
def test_a_picture_comes_in_the_format_and_size_asked_for(shared: RunningService, name: str, side: int) -> None:
    job = shared.wait_for(shared.submit(seed=1)["id"])
    answer = shared.http.get(f"/v1/jobs/{job['id']}/images/0.{name}", params={"size": side})
    assert answer.headers["content-type"] == f"image/{name}"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == (name.upper(), (side, side))


def test_a_resampled_png_keeps_its_record(shared: RunningService) -> None:
    job = shared.wait_for(shared.submit(seed=1, source_prompt="赤いりんご")["id"])
    with png_of(shared, f"/v1/jobs/{job['id']}/images/0.png?size=512") as png:
        assert "Seed: 1" in str(png.text["parameters"])
        assert "赤いりんご" in str(png.text["kotoe"])


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/jobs/{UNKNOWN_ID}",
        f"/v1/jobs/{UNKNOWN_ID}/events",
        f"/v1/jobs/{UNKNOWN_ID}/images/0.png",
    ],
)
def test_an_unknown_job_is_not_found(shared: RunningService, path: str) -> None:
    answer = shared.http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_an_unknown_job_cannot_be_cancelled(shared: RunningService) -> None:
    answer = shared.http.post(f"/v1/jobs/{UNKNOWN_ID}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("job_id", ["1", "0" * 33, "G" * 32, "..%2f..%2fetc", UNKNOWN_ID + "%0a"])
def test_something_other_than_an_id_is_refused(shared: RunningService, job_id: str) -> None:
    answer = shared.http.get(f"/v1/jobs/{job_id}")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_there_is_no_picture_beyond_n_or_before_the_end(held: RunningService) -> None:
    job = held.submit()
    assert held.http.get(f"/v1/jobs/{job['id']}/images/0.png").status_code == 404
    held.engine.release()
    held.wait_for(job["id"])
    assert held.http.get(f"/v1/jobs/{job['id']}/images/1.png").status_code == 404


def test_a_picture_deleted_from_the_gallery_is_not_found(serve: Serve, tmp_path: Path) -> None:
    with serve(gallery=str(tmp_path / "gallery")) as running:
        job = running.wait_for(running.submit()["id"])
        wait_until(lambda: running.store.get(job["id"]).is_delivered)
        (path,) = (tmp_path / "gallery").rglob("*.png")
        assert running.http.get(job["images"][0]["url"]).status_code == 200
        path.unlink()
        answer = running.http.get(job["images"][0]["url"])
    error = error_of(answer, 404, "not_found")
    assert error["message"] == f"picture 0 of job {job['id']} was deleted"


def test_owners_see_their_own_jobs_newest_first(shared: RunningService, owner: str) -> None:
    ids = [shared.submit(owner=owner)["id"] for _ in range(3)]
    shared.submit(owner=f"{owner}-other")
    answer = shared.http.get("/v1/jobs", params={"owner": owner}).json()
    assert answer["object"] == "list"
    assert [job["id"] for job in answer["data"]] == ids[::-1]
    assert set(answer["data"][0]) == JOB_FIELDS
    assert shared.http.get("/v1/jobs", params={"owner": owner, "limit": 1}).json()["data"][0]["id"] == ids[-1]
    assert shared.http.get("/v1/jobs", params={"owner": f"{owner}-nobody"}).json()["data"] == []


@pytest.mark.parametrize("query", ["", "?owner=", "?owner=a/b", "?owner=..", "?owner=a&limit=0", "?owner=a&limit=201"])
def test_a_list_without_a_proper_owner_is_refused(shared: RunningService, query: str) -> None:
    answer = shared.http.get(f"/v1/jobs{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


def test_a_queued_job_is_cancelled_and_never_drawn(held: RunningService) -> None:
    first, second = held.submit(steps=3), held.submit(steps=4)
    cancelled = held.http.post(f"/v1/jobs/{second['id']}/cancel")
    held.engine.release()
    held.wait_for(first["id"])
    job = held.job(second["id"])
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert (job["status"], job["started_at"], job["images"]) == ("cancelled", None, [])
    assert held.wait_for(held.submit(steps=5)["id"])["status"] == "succeeded"
    assert len(held.engine.batches) == 2  # the first job and the last


def test_a_running_job_stops_within_one_step_of_being_cancelled(held: RunningService) -> None:
    job = held.submit()
    held.wait_for(job["id"], "running")
    before = held.engine.steps
    assert held.http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"
    held.engine.release()
    after = held.submit(seed=5)
    held.wait_for(after["id"])
    assert held.engine.steps == before + 1 + 10 + 4  # one more, then the other job


def test_cancelling_again_changes_nothing(held: RunningService) -> None:
    job = held.submit()
    first, second = (held.http.post(f"/v1/jobs/{job['id']}/cancel") for _ in range(2))
    assert (second.status_code, second.json()) == (200, first.json())


def test_an_ended_job_stays_as_it_is_when_cancelled(shared: RunningService) -> None:
    job = shared.wait_for(shared.submit()["id"])
    answer = shared.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()) == (200, job)


def test_the_others_of_a_batch_are_drawn_when_one_is_cancelled(held: RunningService) -> None:
    blocker = held.submit(steps=3)
    held.wait_for(blocker["id"], "running")
    jobs = [held.submit(seed=seed) for seed in (1, 2, 3)]
    held.engine.allow(3 + 4)  # the blocker's
    held.engine.wait_for_step()
    held.engine.allow(1)
    assert held.job(jobs[1]["id"])["progress"] is not None
    held.http.post(f"/v1/jobs/{jobs[1]['id']}/cancel")
    held.engine.release()
    ended = [held.wait_for(job["id"]) for job in jobs]
    assert [job["status"] for job in ended] == ["succeeded", "cancelled", "succeeded"]
    assert [len(batch) for batch in held.engine.batches] == [1, 3]
    for job, seed in zip(ended[::2], (1, 3), strict=True):
        with png_of(held, job["images"][0]["url"]) as png:
            assert png.tobytes() == picture(Drawing(prompt="a red apple", seed=seed, guidance_scale=2.5), 256).tobytes()


def test_an_engine_that_fails_fails_the_job_with_a_reason(serve: Serve) -> None:
    with serve() as running:
        running.engine.failure = RuntimeError("secret details")
        job = running.wait_for(running.submit()["id"])
        assert running.wait_for(running.submit()["id"])["status"] == "succeeded"
    assert job["status"] == "failed"
    assert job["error"] == {
        "message": "the engine failed while it drew this; its log says why",
        "type": "server_error",
        "param": None,
        "code": "engine_failed",
    }


def test_the_expected_time_shrinks_while_a_job_is_drawn(serve: Serve) -> None:
    with serve(engine=FakeEngine(step_s=0.02)) as running:
        running.wait_for(running.submit()["id"])
        running.engine.hold()
        first, second = running.submit(steps=20)["id"], running.submit(steps=21)["id"]
        running.engine.wait_for_step()
        etas = [running.job(job_id)["eta_seconds"] for job_id in (first, second)]
        running.engine.allow(12)
        later = running.job(first)["eta_seconds"]
    assert 0 < etas[0] < etas[1]
    assert 0 < later < etas[0]


def submit_with_key(running: RunningService, key: str, **fields: Any) -> Any:
    return running.http.post("/v1/jobs", json={"prompt": "a red apple"} | fields, headers={"Idempotency-Key": key})


def test_the_same_key_and_body_are_the_same_job(shared: RunningService, owner: str) -> None:
    first, second = (submit_with_key(shared, "key 1", owner=owner) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert len(shared.store.of_owner(owner, 10)) == 1


def test_the_same_key_is_another_job_for_another_owner(shared: RunningService, owner: str) -> None:
    first, second = (submit_with_key(shared, "key", owner=name) for name in (owner, f"{owner}-2"))
    assert first.json()["id"] != second.json()["id"]


def test_the_same_key_with_another_body_is_a_conflict(shared: RunningService, owner: str) -> None:
    submit_with_key(shared, "key", owner=owner)
    answer = submit_with_key(shared, "key", owner=owner, prompt="a blue apple")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert len(shared.store.of_owner(owner, 10)) == 1


def test_the_same_key_at_the_same_moment_makes_one_job(shared: RunningService, owner: str) -> None:
    barrier = threading.Barrier(8)

    def submit(_: int) -> str:
        barrier.wait()
        return str(submit_with_key(shared, "key", owner=owner).json()["id"])

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(submit, range(8)))) == 1
    assert len(shared.store.of_owner(owner, 10)) == 1


def test_a_key_is_good_where_the_quota_is_used_up(serve: Serve) -> None:
    with serve(quota_pictures=1) as running:
        first, second = (submit_with_key(running, "key") for _ in range(2))
        assert submit_with_key(running, "another").status_code == 429
    assert first.json()["id"] == second.json()["id"]


def test_a_key_finds_its_job_while_the_model_loads(serve: Serve) -> None:
    may_load = threading.Event()

    def slow_engine() -> FakeEngine:
        may_load.wait()
        return FakeEngine()

    with serve() as running:
        running.engine.hold()
        first = submit_with_key(running, "key")
        running.engine.release()
    with serve(open_engine=slow_engine) as running:
        second = submit_with_key(running, "key")
        other = submit_with_key(running, "another")
        may_load.set()
    assert (second.status_code, second.json()["id"]) == (202, first.json()["id"])
    assert (other.status_code, other.json()["error"]["code"]) == (503, "model_loading")


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_an_impossible_key_is_refused(shared: RunningService, key: str) -> None:
    answer = submit_with_key(shared, key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "a" * 1001}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"source_prompt": "猫" * 1001}, "source_prompt"),
        ({"negative_prompt": "a" * 1001}, "negative_prompt"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": "two"}, "n"),
        ({"n": 1.5}, "n"),
        ({"seed": -2}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"guidance_scale": 0.5}, "guidance_scale"),
        ({"guidance_scale": 20.5}, "guidance_scale"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_scale": float("inf")}, "guidance_scale"),
        ({"steps": 0}, "steps"),
        ({"steps": 251}, "steps"),
        ({"upsample_steps": 0}, "upsample_steps"),
        ({"sampler": "euler"}, "sampler"),
        ({"upscale": "perhaps"}, "upscale"),
        ({"owner": ""}, "owner"),
        ({"owner": "a/b"}, "owner"),
        ({"owner": ".."}, "owner"),
        ({"owner": "a\n"}, "owner"),
        ({"owner": "あ"}, "owner"),
        ({"owner": "a" * 65}, "owner"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_impossible_field_is_refused_by_name(shared: RunningService, fields: dict[str, Any], param: str) -> None:
    body = json.dumps({"prompt": "a red apple"} | fields).encode()  # with Python's NaN and Infinity
    answer = shared.http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, "invalid_value")
    assert param in error["message"]

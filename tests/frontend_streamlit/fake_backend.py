"""A backend for the page's tests: speaks the HTTP contract over a real loopback socket, draws nothing."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.loopback import serving

# What words are: a table of cases with the rule that a model states, for the tests of both runtimes
PROMPT_WORDS = json.loads((Path(__file__).parents[1] / "data" / "prompt_words.json").read_text(encoding="utf-8"))
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
STATUS = {
    "model": "kotoe-mini",
    "device": "cpu",
    "ready": True,
    "load_error": None,
    "queued_jobs": 0,
    "running_jobs": 0,
    "idle_seconds": 3.0,
    "seconds_per_picture": 1.0,
}
THINGS = {
    "concept": [{"ja": "りんご", "en": "apple"}, {"ja": "青りんご", "en": "green apple"}],
    "colour": [{"ja": "赤", "en": "red"}, {"ja": "緑", "en": "green"}],
    "scene": [{"ja": "草原", "en": "on the grass"}],
    "style": [{"ja": "ドット絵", "en": "pixel art style"}],
}
SKETCH = {
    "name": "base",
    "label": {"ja": "下描き", "en": "sketch"},
    "side": 64,
    "steps": 20,
    "steps_field": "steps",
}
FINISH = {
    "name": "upsample",
    "label": {"ja": "仕上げ", "en": "finish"},
    "side": 256,
    "steps": 4,
    "steps_field": "upsample_steps",
}
MINI: dict[str, Any] = {  # as GET /v1/models/kotoe-mini answers
    "id": "kotoe-mini",
    "object": "model",
    "created": 1640000000,
    "owned_by": "kotoe",
    "device": "cpu",
    "model_hash": "0" * 64,
    "versions": {"torch": "2.13.0"},
    "stages": [SKETCH, FINISH],
    "max_steps": 250,
    "samplers": ["dpmpp_2m", "ddim", "ddpm"],
    "sides": [64, 256],
    "qualities": {
        "fast": {"base": 10, "upsample": 3},
        "standard": {"base": 20, "upsample": 4},
        "high": {"base": 50, "upsample": 8},
    },
    "guidance": {"default": 2.5, "least": 1.0, "most": 20.0},
    "negative_prompt": True,
    "inpainting": False,
    "languages": ["en"],
    "license": "MIT",
    "warnings": [],
    "examples": [
        {"ja": "青い背景に赤いりんご", "en": "a red apple on a blue background"},
        {"ja": "夜空のロケット", "en": "a rocket in the night sky"},
    ],
    "vocabulary": {
        "words": ["a", "on", "red", "blue", "apple", "background"],
        "word_pattern": PROMPT_WORDS["word_pattern"],
        "function_words": PROMPT_WORDS["function_words"],
        "experimental": [],
        "untrained": [],
        "things": THINGS,
    },
    "sprites": {
        "url": "/v1/models/kotoe-mini/sprites.webp",
        "side": 64,
        "columns": 26,
        "things": [thing["en"] for thing in THINGS["concept"]],
    },
}
OPEN: dict[str, Any] = MINI | {  # reads any English and can't draw people
    "id": "open",
    "stages": [SKETCH, FINISH | {"steps": 10}],
    "qualities": {"fast": {"base": 12, "upsample": 6}, "standard": {"base": 20, "upsample": 10}},
    "guidance": {"default": 3.0, "least": 1.0, "most": 20.0},
    "warnings": [
        {"words": ["woman", "man"], "text": {"ja": "人は描けません。", "en": "It draws no people."}},
    ],
    "examples": [{"ja": "コーギーの油絵", "en": "an oil painting of a corgi"}],
    "vocabulary": None,
    "sprites": None,
}
SMALL: dict[str, Any] = OPEN | {  # has one stage and no guidance
    "id": "small",
    "stages": [
        {"name": "latent", "label": {"ja": "本描き", "en": "paint"}, "side": 96, "steps": 6, "steps_field": "steps"}
    ],
    "max_steps": 60,
    "samplers": ["flow_euler"],
    "sides": [96],
    "qualities": {"quick": {"latent": 4}, "standard": {"latent": 8}},
    "guidance": None,
    "negative_prompt": False,
    "warnings": [{"words": [], "text": {"ja": "ゆっくり描きます。", "en": "It draws slowly."}}],
}
ODD: dict[str, Any] = (
    OPEN
    | {  # has other stages, much to choose from, no picture without guidance, words but no things
        "id": "odd",
        "stages": [SKETCH | {"name": "draft"}, FINISH | {"name": "refine", "steps": 5}],
        "samplers": [f"sampler_{number}" for number in range(20)],
        "qualities": {f"quality {number}": {"draft": number + 1, "refine": number + 1} for number in range(8)},
        "guidance": {"default": 4.0, "least": 2.0, "most": 7.3},
        "examples": [{"ja": "ひすい色", "en": "jade"}],
        "vocabulary": MINI["vocabulary"] | {"words": ["jade", "ochre", "a"], "things": {}},
    }
)
CHOICES = {
    "source_prompt": "",
    "translator": "",
    "negative_prompt": "",
    "n": 1,
    "seed": 7,
    "guidance_scale": 2.5,
    "steps": 20,
    "upsample_steps": 4,
    "sampler": "dpmpp_2m",
    "upscale": True,
    "owner": "anonymous",
    "model": "kotoe-mini",
}


def job_document(number: int, status: str, **changes: Any) -> dict[str, Any]:
    """A Job as the contract has it; `request` may be given in part."""
    job_id = f"{number:032x}"
    request = CHOICES | {"prompt": "a red apple"} | changes.pop("request", {})
    images = [
        {"index": index, "seed": request["seed"] + index, "url": f"/v1/jobs/{job_id}/images/{index}.png"}
        for index in range(request["n"] if status == "succeeded" else 0)
    ]
    document = {
        "id": job_id,
        "status": status,
        "request": request,
        "created_at": time.time(),
        "started_at": None,
        "finished_at": None,
        "position": 1 if status == "queued" else None,
        "eta_seconds": None,
        "progress": None,
        "preview": None,
        "unknown_words": [],
        "images": images,
        "error": None,
    }
    return document | changes


@dataclass(frozen=True)
class Answer:
    """What to send back."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(document: Any, status: int = 200) -> "Answer":
        return Answer(status, json.dumps(document).encode())

    @staticmethod
    def error(status: int, code: str, *, param: str | None = None, **headers: str) -> "Answer":
        error = {"message": f"{code} happened", "type": "some_error", "param": param, "code": code}
        return Answer(status, json.dumps({"error": error}).encode(), headers)


CUT = Answer(0, b"")  # the connection ends without an answer


@dataclass
class FakeBackend:
    """Its state, to be changed by tests while it serves."""

    status: dict[str, Any] = field(default_factory=lambda: dict(STATUS))
    model: dict[str, Any] = field(default_factory=lambda: deepcopy(MINI))
    jobs: list[dict[str, Any]] = field(default_factory=list)
    png: bytes = b""
    requests: list[tuple[str, str, Mapping[str, str], Any]] = field(default_factory=list)  # method, path, headers, body
    overrides: list[tuple[str, str, Callable[[], Answer]]] = field(default_factory=list)  # method, path's start, answer
    by_key: dict[str, dict[str, Any]] = field(default_factory=dict)
    url: str = ""

    def answer_with(self, answer: Answer, path: str = "/", method: str = "", times: int = 10**9) -> None:
        """Give this answer to such requests, so often."""
        left = iter(range(times))

        def once() -> Answer:
            if next(left, None) is None:
                raise StopIteration
            return answer

        self.overrides.append((method, path, once))

    def run(self, model: dict[str, Any]) -> None:
        """Run another model."""
        self.model = deepcopy(model)
        self.status["model"] = model["id"]

    def asked(self, method: str, path: str) -> list[tuple[str, str, Mapping[str, str], Any]]:
        """The requests of that kind so far."""
        return [request for request in self.requests if request[0] == method and request[1].startswith(path)]

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        """Answer one request."""
        self.requests.append((method, path, headers, body))
        for wanted, start, answer in self.overrides:
            if path.startswith(start) and wanted in ("", method):
                try:
                    return answer()
                except StopIteration:
                    continue
        if path == "/v1/status":
            return Answer.of(self.status)
        if path == f"/v1/models/{self.model['id']}":
            return Answer.of(self.model)
        if method == "POST" and path == "/v1/jobs":
            if body.get("model") not in (None, self.model["id"]):
                return Answer.error(400, "invalid_value", param="model")
            key = headers["Idempotency-Key"]
            if any(sent["Idempotency-Key"] == key and other != body for _, _, sent, other in self.asked(method, path)):
                return Answer.error(409, "idempotency_conflict")
            if key not in self.by_key:
                self.by_key[key] = job_document(len(self.jobs) + 1, "queued", request=body)
                self.jobs.insert(0, self.by_key[key])
            return Answer.of(self.by_key[key], 202)
        if path.startswith("/v1/jobs?"):
            owner = path.split("owner=")[1].split("&")[0]
            return Answer.of({"data": [job for job in self.jobs if job["request"]["owner"] == owner]})
        found = [job for job in self.jobs if path.startswith(f"/v1/jobs/{job['id']}")]
        if not found:
            return Answer.error(404, "not_found")
        if path.endswith("/cancel"):
            found[0]["status"] = "cancelled"
        return Answer(200, self.png) if path.endswith(".png") else Answer.of(found[0])


@contextmanager
def serve(backend: FakeBackend) -> Iterator[FakeBackend]:
    """Let it listen on a free port of this machine; its `url` says which."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            given = backend.handle(self.command, self.path, self.headers, json.loads(content) if content else None)  # type: ignore[arg-type]  # a Mapping in all but type
            if given is CUT:
                self.close_connection = True
                return
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            self.wfile.write(given.body)

        do_GET = do_POST = answer  # noqa: N815 # as http.server calls them

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as backend.url:
        yield backend

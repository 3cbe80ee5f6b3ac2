"""Who may ask for what: every rule that a request must pass before it becomes a job."""

import logging
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from backend_gpu.errors import ContentRefused, InvalidRequest, ModelLoading, RateLimited
from backend_gpu.jobs.job import Job, JobRequest
from backend_gpu.jobs.store import JobStore
from backend_gpu.jobs.worker import Worker

JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uff66-\uff9f]")  # kana, kanji, half-width kana
logger = logging.getLogger(__name__)

LOADING_RETRY_S = 5.0
FULL_RETRY_S = 30.0  # told when the queue is full and no time was measured yet


@dataclass(frozen=True)
class Blocklist:
    """Terms that no prompt may have."""

    terms: tuple[str, ...]

    @staticmethod
    def read(path: Path | None) -> "Blocklist":
        """Read a UTF-8 file of one term a line; empty lines and those that start with # say nothing.

        Raises:
            InvalidRequest: it can't be read.
        """
        if path is None:
            return Blocklist(())
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"can't read the blocklist {path}: {error}") from error
        return Blocklist(tuple(line.strip().casefold() for line in lines if line.strip() and not line.startswith("#")))

    def check(self, *texts: str) -> None:
        """Refuse texts with a term: Latin words as whole words, Japanese anywhere.

        Raises:
            ContentRefused: there is one.
        """
        for text in texts:
            folded = text.casefold()
            for term in self.terms:
                pattern = re.escape(term) if JAPANESE.search(term) else rf"\b{re.escape(term)}\b"
                if re.search(pattern, folded):
                    raise ContentRefused("the prompt has a term that this service does not draw: change it")


@dataclass(frozen=True, kw_only=True)
class Quota:
    """How many pictures one owner may ask for."""

    pictures: int
    window_s: int


class Intake:
    """The way into the queue."""

    def __init__(self, store: JobStore, worker: Worker, blocklist: Blocklist, quota: Quota) -> None:
        self.store, self.worker, self.blocklist, self.quota = store, worker, blocklist, quota
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._limit = RateLimitItemPerSecond(quota.pictures, quota.window_s)
        self._lock = threading.Lock()  # between asking the quota and using it

    def accept(self, request: JobRequest, idempotency_key: str | None = None, fingerprint: str = "") -> Job:
        """Make a job of a request, or find the one that the same key made.

        Raises:
            ModelLoading: the engine can't check or draw anything yet.
            ContentRefused: a term of the blocklist.
            InvalidRequest: the model can't draw that prompt.
            RateLimited, QueueFull: too much at once or in the window.
            IdempotencyConflict: the key came before with another fingerprint.
            StorageUnavailable: it could not be written down, so it was not accepted.
        """
        key = None if idempotency_key is None else f"{request.owner} {idempotency_key}"
        if key is not None and (earlier := self.store.find(key, fingerprint)):
            return earlier
        self.check_prompts(request)
        with self._lock:
            if not self._limiter.test(self._limit, request.owner, cost=request.n):
                raise self._over_quota(request)
            job, is_new = self.store.add(request, self._retry_after_s(), key, fingerprint)
            if is_new:
                self._limiter.hit(self._limit, request.owner, cost=request.n)
        if is_new:
            logger.info("job accepted", extra={"job_id": job.id, "pictures": request.n})
            self.worker.notify()
        return job

    def check_prompts(self, request: JobRequest) -> None:
        """Say what keeps a request from being drawn."""
        engine = self.worker.engine
        if engine is None:
            reason = self.worker.load_error or "the model is being loaded"
            raise ModelLoading(f"{reason}: try again in {LOADING_RETRY_S:.0f} s", LOADING_RETRY_S)
        self.blocklist.check(request.prompt, request.negative_prompt, request.source_prompt)
        for text in (request.prompt, request.negative_prompt):
            if JAPANESE.search(text):
                raise InvalidRequest(
                    "prompts are English: translate the Japanese first (the Kotoe page does), "
                    "and send the original as source_prompt"
                )
        engine.check_prompt(request.prompt)
        if request.negative_prompt:
            engine.check_prompt(request.negative_prompt)

    def _over_quota(self, request: JobRequest) -> RateLimited:
        stats = self._limiter.get_window_stats(self._limit, request.owner)
        wait_s = max(1.0, stats.reset_time - time.time())
        return RateLimited(
            f"at most {self.quota.pictures} pictures in {self.quota.window_s} s: {stats.remaining} are left "
            f"and {request.n} were asked for; more are free in {wait_s:.0f} s",
            wait_s,
        )

    def _retry_after_s(self) -> float:
        """When a full queue has room again, roughly: after one batch."""
        seconds = self.worker.seconds_per_picture()
        return FULL_RETRY_S if seconds is None else max(1.0, seconds * self.worker.options.max_batch_pictures)

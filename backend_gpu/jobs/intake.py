"""Who may ask for what: every rule that a request must pass before it becomes a job."""

import logging
import threading
from collections import Counter
from dataclasses import dataclass

from backend_gpu import logs
from backend_gpu.engine import Engine
from backend_gpu.errors import InvalidRequest, ModelLoading, RateLimited
from backend_gpu.jobs.blocklist import Blocklist
from backend_gpu.jobs.job import Job, JobRequest
from backend_gpu.jobs.store import JobStore
from backend_gpu.jobs.worker import Worker
from backend_gpu.plain_text import JAPANESE

logger = logging.getLogger(__name__)

LOADING_RETRY_S = 5.0
MAX_REFUSED = 10_000  # claims; whoever is forgotten gets an earlier job's pictures at worst
FULL_RETRY_S = 30.0  # told when the queue is full and no time was measured yet


@dataclass(frozen=True, kw_only=True)
class Quota:
    """How many pictures one owner may ask for."""

    pictures: int
    window_s: int


@dataclass(frozen=True, kw_only=True)
class Claim:
    """How a caller recognises the job that an earlier try of the same submission made."""

    owner: str
    key: str | None = None  # chosen by the caller; None: only clients' own retries are recognised
    fingerprint: str = ""  # of what was asked for

    @property
    def idempotency_key(self) -> str | None:
        """The key among those of all owners."""
        return None if self.key is None else f"{self.owner} {self.key}"


class Intake:
    """The way into the queue."""

    def __init__(self, store: JobStore, worker: Worker, blocklist: Blocklist, quota: Quota) -> None:
        self.store, self.worker, self.blocklist, self.quota = store, worker, blocklist, quota
        self._refused: Counter[Claim] = Counter()  # tries that made no job; in memory, as a client soon comes again
        self._lock = threading.Lock()  # between asking the quota and accepting the job that uses it

    def engine(self) -> Engine:
        """What draws here.

        Raises:
            ModelLoading: nothing yet.
        """
        engine = self.worker.engine
        if engine is None:
            reason = self.worker.load_error or "the model is being loaded"
            raise ModelLoading(f"{reason}: try again in {LOADING_RETRY_S:.0f} s", LOADING_RETRY_S)
        return engine

    def earlier(self, claim: Claim) -> Job | None:
        """The job that the claim's key has made; it is found while the model loads too.

        Raises:
            IdempotencyConflict: the key came before with another fingerprint.
        """
        key = claim.idempotency_key
        return None if key is None else self.store.find(key, claim.fingerprint)

    def was_refused(self, claim: Claim) -> bool:
        """Whether an earlier try of this claim made no job; asking takes one of its refusals away."""
        with self._lock:
            if not self._refused[claim]:
                del self._refused[claim]
                return False
            self._refused[claim] -= 1
            return True

    def note_refusal(self, claim: Claim) -> None:
        """A try of this claim made no job, and its client will come again."""
        with self._lock:
            if len(self._refused) >= MAX_REFUSED:
                self._refused.clear()
            self._refused[claim] += 1

    def accept(self, request: JobRequest, claim: Claim) -> Job:
        """Make a job of a request, or find the one that the same key made.

        Raises:
            ModelLoading: the engine can't check or draw anything yet.
            ContentRefused: a term of the blocklist.
            InvalidRequest: the model can't draw that prompt.
            RateLimited, QueueFull: too much at once or in the window.
            IdempotencyConflict: the key came before with another fingerprint.
            StorageUnavailable: it could not be written down, so it was not accepted.
        """
        unknown_words = self.check_prompts(request)
        with self._lock:
            if earlier := self.earlier(claim):  # it may have come meanwhile, and is not counted twice
                return earlier
            self._check_quota(request)
            job, _ = self.store.add(
                request,
                self._retry_after_s(),
                claim.idempotency_key,
                claim.fingerprint,
                logs.request_id.get(),
                unknown_words,
            )
        logger.info("job accepted", extra=job.log_ids | {"pictures": request.n})
        self.worker.notify()
        return job

    def check_prompts(self, request: JobRequest) -> list[str]:
        """Refuse what can't be drawn or must not be.

        Returns: the words of both prompts that the model does not know, each once.
        """
        engine = self.engine()
        texts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
        for param, text in (texts | {"source_prompt": request.source_prompt}).items():
            self.blocklist.check(text, param)
        if not request.prompt.strip():
            raise InvalidRequest("the prompt is empty: say what to draw")
        for param, text in texts.items():
            if JAPANESE.search(text):
                raise InvalidRequest(
                    f"{param} has Japanese in it, but prompts are English: translate it first (the Kotoe page does), "
                    "and send the original as source_prompt",
                    param,
                )
        unknown_words = engine.check_prompt(request.prompt)
        if request.negative_prompt:
            try:
                unknown_words += engine.check_prompt(request.negative_prompt, is_negative=True)
            except InvalidRequest as error:
                raise InvalidRequest(f"negative_prompt: {error}", "negative_prompt") from error
        return list(dict.fromkeys(unknown_words))

    def _check_quota(self, request: JobRequest) -> None:
        now, window_s = self.store.clock(), self.quota.window_s
        used, first_at = self.store.pictures_since(request.owner, now - window_s)
        if used <= self.quota.pictures - request.n:
            return
        if request.n > self.quota.pictures:  # waiting would not help
            raise InvalidRequest(f"n is {request.n}, at most {self.quota.pictures} pictures in {window_s} s", "n")
        wait_s = min(max(1.0, first_at + window_s - now), window_s)
        raise RateLimited(
            f"at most {self.quota.pictures} pictures in {window_s} s: {self.quota.pictures - used} are left "
            f"and {request.n} were asked for; more are free in {wait_s:.0f} s",
            wait_s,
        )

    def _retry_after_s(self) -> float:
        """When a full queue has room again, roughly: after one batch."""
        seconds = self.worker.seconds_per_picture()
        return FULL_RETRY_S if seconds is None else max(1.0, seconds * self.worker.options.max_batch_pictures)

"""Who may ask for what: every rule that a request must pass before it becomes a job."""

import logging
import threading
from dataclasses import dataclass

from backend_gpu import logs
from backend_gpu.engine import Engine
from backend_gpu.errors import InvalidRequest, QueueFull, RateLimited
from backend_gpu.jobs.blocklist import Blocklist
from backend_gpu.jobs.forecast import Forecast
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.request import JobRequest
from backend_gpu.jobs.retries import Claim
from backend_gpu.jobs.store import JobStore
from backend_gpu.plain_text import JAPANESE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be asked for."""

    queued_jobs: int  # at once
    jobs_per_owner: int  # queued or running at once
    quota_pictures: int  # of one owner in the window
    quota_window_s: int


class Intake:
    """The way into the queue."""

    def __init__(self, store: JobStore, forecast: Forecast, blocklist: Blocklist, limits: Limits) -> None:
        self.store, self.forecast, self.blocklist, self.limits = store, forecast, blocklist, limits
        self._lock = threading.Lock()  # between looking at key and limits and adding the job: this process alone adds

    def accept(self, engine: Engine, request: JobRequest, claim: Claim) -> Job:
        """Make a job of a request, or find the one that the same key made.

        Raises:
            ContentRefused: a term of the blocklist.
            InvalidRequest: the model can't draw that prompt, or the quota never has so many pictures.
            RateLimited, QueueFull: too much at once or in the window.
            IdempotencyConflict: the key came before with another fingerprint.
            StorageUnavailable: it could not be written down, so it was not accepted.
        """
        unknown_words = self.check_prompts(engine, request)
        with self._lock:
            if earlier := self.store.find(claim):  # it may have come meanwhile, and is not counted twice
                return earlier
            self._check_quota(request)
            self._check_caps(request.owner)
            job = self.store.add(request, claim, logs.request_id.get(), unknown_words)
        logger.info("job accepted", extra=job.log_ids | {"pictures": request.n})
        return job

    def check_prompts(self, engine: Engine, request: JobRequest) -> list[str]:
        """Refuse what can't be drawn or must not be.

        Returns: the words of both prompts that the model does not know, each once.
        """
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
        now, pictures, window_s = self.store.clock(), self.limits.quota_pictures, self.limits.quota_window_s
        used, first_at = self.store.pictures_since(request.owner, now - window_s)
        if used <= pictures - request.n:
            return
        if request.n > pictures:  # waiting would not help
            raise InvalidRequest(f"n is {request.n}, at most {pictures} pictures in {window_s} s", "n")
        wait_s = min(max(1.0, first_at + window_s - now), window_s)
        raise RateLimited(
            f"at most {pictures} pictures in {window_s} s: {pictures - used} are left "
            f"and {request.n} were asked for; more are free in {wait_s:.0f} s",
            wait_s,
        )

    def _check_caps(self, owner: str) -> None:
        if (queued := self.store.count("queued")) >= self.limits.queued_jobs:
            wait_s = self.forecast.retry_after_s()
            raise QueueFull(
                f"the queue is full: {queued} jobs wait, at most {self.limits.queued_jobs}; "
                f"try again in {wait_s:.0f} s",
                wait_s,
            )
        if (owned := self.store.count("queued", "running", owner=owner)) >= self.limits.jobs_per_owner:
            wait_s = self.forecast.retry_after_s()
            raise RateLimited(
                f"you have {owned} jobs waiting or running, at most {self.limits.jobs_per_owner}: "
                f"wait for one to end (about {wait_s:.0f} s) or cancel one",
                wait_s,
            )

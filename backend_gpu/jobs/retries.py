"""Submissions that are sent again: how their job is recognised, and which tries without a key made none."""

import threading
from collections import Counter
from dataclasses import dataclass

MAX_REFUSED = 10_000  # claims; whoever is forgotten gets an earlier job's pictures at worst


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


class Refusals:
    """Tries that made no job; in memory, as a client soon comes again."""

    def __init__(self) -> None:
        self._counts: Counter[Claim] = Counter()
        self._lock = threading.Lock()

    def note(self, claim: Claim) -> None:
        """A try of this claim made no job, and its client will come again."""
        with self._lock:
            if len(self._counts) >= MAX_REFUSED:
                self._counts.clear()
            self._counts[claim] += 1

    def take(self, claim: Claim) -> bool:
        """Whether an earlier try of this claim made no job; asking takes one of its refusals away."""
        with self._lock:
            if not self._counts[claim]:
                del self._counts[claim]
                return False
            self._counts[claim] -= 1
            return True

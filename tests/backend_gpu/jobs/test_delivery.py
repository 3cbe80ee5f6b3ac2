"""What happens to finished pictures that the gallery does not take."""

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backend_gpu.errors import GalleryUnavailable, StorageUnavailable
from backend_gpu.gallery import Gallery
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.pictures import MAX_RETRY_INTERVAL_S, Delivery, Pictures
from backend_gpu.jobs.store import JobStore
from tests.backend_gpu.jobs.clock import Clock
from tests.backend_gpu.jobs.conftest import a_request, read_only

PNG = b"a picture"


class ChoosyGallery(Gallery):
    """A folder that does not take the pictures of some owners."""

    refuses: Callable[[str, str], bool] = staticmethod(lambda _owner, _name: False)

    def write(self, owner: str, name: str, png: bytes) -> None:
        if self.refuses(owner, name):
            raise GalleryUnavailable(
                f"the gallery {self.root} can't be used (403 Forbidden): check the path and rights"
            )
        super().write(owner, name, png)


@dataclass
class Round:
    """A delivery without its thread: a test says when it goes round."""

    store: JobStore
    clock: Clock
    folder: Path
    gallery: ChoosyGallery = field(init=False)
    pictures: Pictures = field(init=False)
    delivery: Delivery = field(init=False)

    def __post_init__(self) -> None:
        self.gallery = ChoosyGallery(str(self.folder / "gallery"))
        self.pictures = Pictures(self.folder / "finished", self.gallery)
        self.delivery = Delivery(self.store, self.pictures, 10, self.clock)

    def finished_job(self, owner: str, n: int = 1) -> Job:
        """A job whose pictures wait for the gallery."""
        job = self.store.add(a_request(owner=owner, n=n), request_id=f"request of {owner}")
        self.store.claim(lambda waiting: waiting)
        self.pictures.keep(job, [PNG] * n)
        return self.store.succeed(job.id)

    def delivered(self) -> list[str]:
        """Whose pictures are in the gallery."""
        return sorted(path.parent.name for path in (self.folder / "gallery").glob("*/*.png"))


@pytest.fixture
def round_(tmp_path: Path) -> Iterator[Round]:
    clock = Clock()
    with closing(JobStore(tmp_path / "jobs.sqlite3", clock)) as store:
        yield Round(store, clock, tmp_path)


def test_pictures_that_the_gallery_refuses_hold_up_no_others_and_are_kept(round_: Round) -> None:
    refused = round_.finished_job("anna")
    round_.finished_job("ben")
    round_.gallery.refuses = lambda owner, _: owner == "anna"
    round_.delivery.deliver_due()
    assert round_.delivered() == ["ben"]
    assert round_.pictures.read(refused, 0) == PNG
    round_.finished_job("cleo")
    round_.delivery.deliver_due()
    assert round_.delivered() == ["ben", "cleo"]
    assert round_.store.undelivered() == [refused]


def test_one_picture_that_is_refused_holds_up_no_other_of_its_job(round_: Round) -> None:
    job = round_.finished_job("anna", n=3)
    round_.gallery.refuses = lambda _, name: name.endswith("_1.png")
    round_.delivery.deliver_due()
    assert round_.delivered() == ["anna", "anna"]
    round_.gallery.refuses = lambda _owner, _name: False
    round_.clock.advance(10)
    round_.delivery.deliver_due()
    assert round_.delivered() == ["anna"] * 3
    assert round_.store.get(job.id).is_delivered


def test_a_refused_delivery_waits_twice_as_long_each_time_up_to_a_limit(round_: Round) -> None:
    tries: list[float] = []

    def refuse(*_: str) -> bool:
        tries.append(round_.clock.now)
        return True

    round_.gallery.refuses = refuse
    round_.finished_job("anna")
    assert round_.delivery.wait_s() is None
    started_at = round_.clock.now
    round_.delivery.deliver_due()
    for _ in range(2000):
        round_.clock.advance(1)
        round_.delivery.deliver_due()
    gaps = [after - before for before, after in itertools.pairwise(tries)]
    assert tries[0] == started_at
    assert gaps[:6] == [10, 20, 40, 80, 160, MAX_RETRY_INTERVAL_S]
    assert set(gaps[5:]) == {MAX_RETRY_INTERVAL_S}
    assert 0 < (round_.delivery.wait_s() or 0) <= MAX_RETRY_INTERVAL_S

    round_.gallery.refuses = lambda _owner, _name: False
    round_.clock.advance(MAX_RETRY_INTERVAL_S)
    round_.delivery.deliver_due()
    assert round_.delivered() == ["anna"]
    assert round_.delivery.wait_s() is None


def test_every_failure_is_one_line_that_says_which_job_why_and_when_it_is_tried_again(
    round_: Round, caplog: pytest.LogCaptureFixture
) -> None:
    job = round_.finished_job("anna")
    round_.gallery.refuses = lambda _owner, _name: True
    with caplog.at_level(logging.WARNING):
        for _ in range(15):  # seconds: the first try, and the second after ten
            round_.delivery.deliver_due()
            round_.clock.advance(1)
    lines = [vars(record) for record in caplog.records]
    assert [(line["failures"], line["retry_s"]) for line in lines] == [(1, 10), (2, 20)]
    assert {line["job_id"] for line in lines} == {job.id}
    assert {line["request_id"] for line in lines} == {"request of anna"}
    assert all("403 Forbidden" in line["reason"] for line in lines)


def test_a_delivery_that_cannot_be_noted_is_noted_later(round_: Round) -> None:
    job = round_.finished_job("anna")
    with read_only(round_.store):
        round_.delivery.deliver_due()
    assert not round_.store.get(job.id).is_delivered
    assert round_.pictures.read(job, 0) == PNG
    round_.clock.advance(10)
    round_.delivery.deliver_due()
    assert round_.store.get(job.id).is_delivered
    assert round_.delivered() == ["anna"]


def test_a_delivery_that_was_noted_though_the_disk_said_no_is_not_waited_for(
    round_: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_.finished_job("anna")
    mark_delivered = round_.store.mark_delivered

    def mark_and_fail(job_id: str) -> None:
        mark_delivered(job_id)
        raise StorageUnavailable("disk I/O error")

    monkeypatch.setattr(round_.store, "mark_delivered", mark_and_fail)
    round_.delivery.deliver_due()
    assert round_.delivery.wait_s() == 10
    round_.delivery.deliver_due()
    assert round_.delivery.wait_s() is None

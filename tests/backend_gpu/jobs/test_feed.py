import asyncio
import threading
from collections.abc import Coroutine

from backend_gpu.jobs.feed import Feed
from tests.backend_gpu.waiting import WAIT_S


def run_with_limit(coroutine: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, WAIT_S))


async def in_thread(act: threading.Thread) -> None:
    act.start()
    await asyncio.to_thread(act.join)


def test_a_listener_is_woken_from_another_thread_at_every_change() -> None:
    feed = Feed()

    async def listen() -> None:
        with feed.listen("a") as changed:
            for _ in range(3):
                threading.Thread(target=feed.publish, args=("a",)).start()
                await changed.wait()
                changed.clear()

    run_with_limit(listen())


def test_only_listeners_of_the_job_are_woken() -> None:
    feed = Feed()

    async def listen() -> None:
        with feed.listen("a") as a, feed.listen("a") as also_a, feed.listen("b") as b, feed.listen("c") as c:
            await in_thread(threading.Thread(target=feed.publish, args=("a", "c", "nobody's")))
            assert [event.is_set() for event in (a, also_a, b, c)] == [True, True, False, True]

    run_with_limit(listen())


def test_all_listeners_are_woken_when_the_queue_moves() -> None:
    feed = Feed()

    async def listen() -> None:
        with feed.listen("a") as a, feed.listen("b") as b:
            await in_thread(threading.Thread(target=feed.publish_all))
            assert a.is_set()
            assert b.is_set()

    run_with_limit(listen())


def test_a_listener_that_has_left_is_forgotten() -> None:
    feed = Feed()

    async def listen() -> None:
        with feed.listen("a") as left:
            pass
        with feed.listen("a") as stays:
            feed.publish("a")
            await stays.wait()
        assert not left.is_set()

    run_with_limit(listen())
    assert feed._listeners == {}


def test_a_listener_that_was_cancelled_is_forgotten() -> None:
    feed = Feed()

    async def wait_for_ever() -> None:
        with feed.listen("a") as changed:
            await changed.wait()

    async def hang_up() -> None:
        tasks = [asyncio.create_task(wait_for_ever()) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(feed._listeners["a"]) == 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_with_limit(hang_up())
    assert feed._listeners == {}


def test_a_loop_that_has_closed_does_not_hinder_who_publishes() -> None:
    feed = Feed()
    listening = feed.listen("a")

    async def vanish() -> None:
        listening.__enter__()  # and never leave, as in a process that shuts down

    run_with_limit(vanish())
    assert len(feed._listeners["a"]) == 1
    feed.publish("a")

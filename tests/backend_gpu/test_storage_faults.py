"""What happens to a running service when somebody meddles with its data folder, or when rows in it can't be read."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from backend_gpu.errors import BackendError, StorageDamaged, StorageUnavailable
from backend_gpu.jobs.folder_lock import FolderLock
from backend_gpu.jobs.store import JobStore
from tests.backend_gpu.api.running_service import RunningService, error_of, running_service
from tests.backend_gpu.jobs.conftest import a_request
from tests.backend_gpu.service_process import run_backend
from tests.backend_gpu.waiting import wait_until


def remove_queue(data_dir: Path) -> None:
    for path in data_dir.glob("jobs.sqlite3*"):
        path.unlink()


def remove_folder(data_dir: Path) -> None:
    while data_dir.exists():  # the service may put a new lock into it meanwhile
        shutil.rmtree(data_dir, ignore_errors=True)


def remove_folder_and_make_it_anew(data_dir: Path) -> None:
    remove_folder(data_dir)
    data_dir.mkdir()


def move_folder(data_dir: Path) -> None:
    data_dir.rename(data_dir.with_name("elsewhere"))


def remove_journal(data_dir: Path) -> None:
    (data_dir / "jobs.sqlite3-wal").unlink()


def replace_with_a_copy(data_dir: Path) -> None:
    copy = data_dir / "copy"
    shutil.copy(data_dir / "jobs.sqlite3", copy)
    copy.replace(data_dir / "jobs.sqlite3")


def empty_queue(data_dir: Path) -> None:
    os.truncate(data_dir / "jobs.sqlite3", 0)


def empty_journal(data_dir: Path) -> None:
    os.truncate(data_dir / "jobs.sqlite3-wal", 0)


def put_an_empty_queue_into_the_same_file(data_dir: Path) -> None:
    JobStore(data_dir / "other" / "jobs.sqlite3").close()
    (data_dir / "jobs.sqlite3").write_bytes((data_dir / "other" / "jobs.sqlite3").read_bytes())
    empty_journal(data_dir)


def spoil_the_beginning(data_dir: Path) -> None:
    with (data_dir / "jobs.sqlite3").open("r+b") as file:
        file.write(b"\0" * 8192)


def assert_nothing_is_accepted(running: RunningService) -> None:
    for answer in (
        running.http.post("/v1/jobs", json={"prompt": "a cat"}),
        running.http.post("/v1/jobs", json={"prompt": "a cat"}, headers={"Idempotency-Key": "before"}),
        running.http.post("/v1/images/generations", json={"prompt": "a cat"}),
        running.http.get("/readyz"),
    ):
        message = error_of(answer, 503, "storage_unavailable")["message"]
        assert "while the service ran" in message or "another service uses" in message
        assert "free some space" not in message
    assert running.http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "meddle",
    [
        *(
            remove_queue,
            remove_journal,
            remove_folder,
            remove_folder_and_make_it_anew,
            move_folder,
            replace_with_a_copy,
        ),
        *(empty_queue, empty_journal, put_an_empty_queue_into_the_same_file, spoil_the_beginning),
    ],
)
def test_nothing_is_accepted_into_a_queue_that_was_taken_away(tmp_path: Path, meddle: Callable[[Path], None]) -> None:
    with running_service(tmp_path / "data") as running:
        running.http.post("/v1/jobs", json={"prompt": "a cat"}, headers={"Idempotency-Key": "before"})
        assert running.http.get("/readyz").status_code == 200
        meddle(tmp_path / "data")
        assert_nothing_is_accepted(running)


def test_a_queue_that_is_put_back_is_used_again_with_all_its_jobs(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", storage_retry_s=0.1) as running:
        running.engine.hold()
        held = running.submit()["id"]
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        assert_nothing_is_accepted(running)
        (tmp_path / "elsewhere").rename(tmp_path / "data")
        wait_until(lambda: running.http.get("/readyz").status_code == 200)
        running.engine.release()
        assert running.wait_for(running.submit()["id"])["status"] == "succeeded"
        assert running.wait_for(held)["status"] == "succeeded"


def test_a_removed_folder_may_have_another_service_and_the_first_one_stays_out_of_it(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as first:
        remove_folder(tmp_path / "data")
        assert_nothing_is_accepted(first)
        with running_service(tmp_path / "data") as second:
            job = second.submit()["id"]
            assert_nothing_is_accepted(first)
            assert second.wait_for(job)["status"] == "succeeded"
            assert second.http.get("/readyz").status_code == 200


def test_the_lock_follows_its_name(tmp_path: Path) -> None:
    """Only the lock file is removed: the service locks the new one, and stays the only one."""
    with running_service(tmp_path / "data") as running:
        (tmp_path / "data" / "service.lock").unlink()
        assert running.http.get("/readyz").status_code == 200
        with pytest.raises(StorageUnavailable, match="another service uses the data folder"):
            FolderLock(tmp_path / "data" / "service.lock")
        assert running.wait_for(running.submit()["id"])["status"] == "succeeded"


def test_a_folder_whose_lock_another_service_took_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as first:
        (tmp_path / "data" / "service.lock").unlink()
        with running_service(tmp_path / "data") as second:
            answer = first.http.post("/v1/jobs", json={"prompt": "a cat"})
            assert "another service" in error_of(answer, 503, "storage_unavailable")["message"]
            assert second.wait_for(second.submit()["id"])["status"] == "succeeded"


def test_another_program_may_read_the_queue_and_close_it(tmp_path: Path) -> None:
    """As an operator does: SQLite's locks must hold, or the last reader takes the -wal away with it."""
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(*c.execute('SELECT id FROM jobs')); c.close()"
    with running_service(tmp_path / "data") as running:
        for _ in range(3):
            job = running.wait_for(running.submit()["id"])
            arguments = [sys.executable, "-c", look, str(tmp_path / "data" / "jobs.sqlite3")]
            seen = subprocess.run(arguments, capture_output=True, text=True, check=True)
            assert job["id"] in seen.stdout
            assert (tmp_path / "data" / "jobs.sqlite3-wal").exists()
        assert running.http.get("/readyz").status_code == 200
        assert running.wait_for(running.submit()["id"])["status"] == "succeeded"


# Rows that can't be read


STORED = a_request().to_json()
UNREADABLE_REQUESTS: dict[str, object] = {
    "a field of a later version": json.dumps(STORED | {"width": 512}),
    "a field missing": json.dumps({name: value for name, value in STORED.items() if name != "sampler"}),
    "a value of a later version": json.dumps(STORED | {"sampler": "euler"}),
    "another type": json.dumps(STORED | {"n": "two"}),
    "out of range": json.dumps(STORED | {"n": 1_000_000_000}),
    "no number": json.dumps(STORED).replace("2.5", "NaN"),
    "broken JSON": json.dumps(STORED)[:-5],
    "no object": "[1, 2]",
    "empty": "",
    "bytes": b"\x00\xff\xfe",
    "not UTF-8": json.dumps(STORED).encode().replace(b"a red apple", b"a red \xff apple"),
    "deep": "[" * 100_000,
    "half a character": r'{"prompt": "\ud800 cat", "source_prompt": "\udfff", "later": 1}',
}


def test_jobs_that_cannot_be_read_fail_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jobs.sqlite3"
    with closing(JobStore(path)) as store:
        before = store.add(a_request()).id
        broken = {name: store.add(a_request()).id for name in UNREADABLE_REQUESTS}
        after = store.add(a_request()).id
    with closing(sqlite3.connect(path)) as sql, sql:
        for name, stored in UNREADABLE_REQUESTS.items():
            sql.execute("UPDATE jobs SET request = CAST(? AS TEXT) WHERE id = ?", (stored, broken[name]))
    with running_service(tmp_path / "data") as running:
        for job_id in (before, after):
            assert running.wait_for(job_id)["status"] == "succeeded"
        for name, job_id in broken.items():
            failed = running.wait_for(job_id)
            assert failed["status"] == "failed", name
            assert failed["error"]["code"] == "unreadable_request", name
            assert "send it again" in failed["error"]["message"], name
        assert running.http.get("/readyz").status_code == 200
        listed = running.http.get("/v1/jobs", params={"owner": "anna"}).json()["data"]
        assert {job["id"] for job in listed} == {before, *broken.values(), after}
        assert len(running.engine.batches) == 1  # of the two that can be read
        assert running.wait_for(running.submit()["id"])["status"] == "succeeded"


NONSENSE: dict[str, object] = {
    "id": b"\x00\xff",
    "unknown_words": "[" * 5000 + "]" * 5000,
    "owner": "../../etc",
    "pictures": "many",
    "status": "paused",
    "attempts": "often",
    "created_at": "yesterday",
    "counted_at": 1e300,
    "started_at": b"\x00",
    "finished_at": 1e18,
    "is_delivered": "perhaps",
    "error_code": "from_the_future",
    "request_id": b"\xff",
    "idempotency_key": b"\xff",
    "fingerprint": None,
    "batch_key": b"\xff",
}


def test_nonsense_in_any_column_of_a_job_stops_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jobs.sqlite3"
    with closing(JobStore(path)) as store:
        good = store.add(a_request()).id
        waiting = {column: store.add(a_request()).id for column in NONSENSE}
        ended = {column: store.cancel(store.add(a_request(owner="ended")).id).id for column in NONSENSE}
    with closing(sqlite3.connect(path)) as sql, sql:
        sql.execute("""UPDATE jobs SET unknown_words = '["\\ud800"]' WHERE id = ?""", (good,))
        for column, value in NONSENSE.items():
            sql.execute(f"UPDATE jobs SET {column} = ? WHERE id = ?", (value, waiting[column]))
            if column not in ("id", "idempotency_key"):  # of which there is only one each
                sql.execute(f"UPDATE jobs SET {column} = ? WHERE id = ?", (value, ended[column]))
    with running_service(tmp_path / "data", keep_jobs_s=1e6) as running:
        assert running.wait_for(good)["status"] == "succeeded"
        assert running.http.get("/readyz").status_code == 200
        for owner in ("anna", "ended"):
            assert running.http.get("/v1/jobs", params={"owner": owner}).status_code == 200
        for column in NONSENSE.keys() - {"id"}:
            assert running.wait_for(waiting[column])["status"] in {"succeeded", "failed"}, column
            assert running.http.get(f"/v1/jobs/{ended[column]}").status_code == 200, column
        assert running.wait_for(running.submit()["id"])["status"] == "succeeded"
        wait_until(lambda: not running.store.undelivered())


def test_nonsense_among_turns_and_measured_times_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jobs.sqlite3"
    with closing(JobStore(path)) as store:
        job = store.add(a_request()).id
    with closing(sqlite3.connect(path)) as sql, sql:
        sql.execute(
            "INSERT INTO owners (owner, turn) VALUES ('anna', 'x'), ('ben', 1e300), ('cleo', 9223372036854775807)"
        )
        for seconds in ("soon", -1.0, 1e308, b"\xff"):
            sql.execute(
                "INSERT OR REPLACE INTO timings VALUES ('kotoe-mini cpu', 'base', ?, ?)", (str(seconds), seconds)
            )
    with running_service(tmp_path / "data") as running:
        assert running.wait_for(job)["status"] == "succeeded"
        for owner in ("ben", "cleo"):
            assert running.wait_for(running.submit(owner=owner)["id"])["status"] == "succeeded"
        turns = running.store.database.read("SELECT turn FROM owners ORDER BY turn")
        assert [row["turn"] for row in turns] == [1, 2, 3]
        assert running.http.get("/readyz").status_code == 200


# What is wrong is told in words of its own


def test_a_damaged_queue_is_told_as_such_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jobs.sqlite3"
    with closing(JobStore(path)) as store:
        for seed in range(50):
            store.add(a_request(seed=seed))
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996  # of the first page, behind the header
    path.write_bytes(content)
    ended = run_backend(data_dir=tmp_path / "data", port=0)
    assert ended.returncode == 2
    assert "is damaged" in ended.stderr
    assert "put back an earlier copy" in ended.stderr
    assert "free some space" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_queue_damaged_while_the_service_runs_is_told_as_such(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as running:
        running.store.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = (tmp_path / "data" / "jobs.sqlite3").stat().st_size
        with (tmp_path / "data" / "jobs.sqlite3").open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        running.store.database.connection.execute("PRAGMA shrink_memory")
        message = error_of(running.http.post("/v1/jobs", json={"prompt": "a"}), 503, "storage_damaged")["message"]
        assert "is damaged" in message
        assert "free some space" not in message


def test_a_queue_without_a_column_is_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jobs.sqlite3"
    JobStore(path).close()
    with closing(sqlite3.connect(path)) as sql, sql:
        sql.execute("ALTER TABLE jobs RENAME COLUMN pictures TO images")
    with pytest.raises(StorageDamaged, match=r"has no jobs\.pictures"):
        JobStore(path)
    ended = run_backend(data_dir=tmp_path / "data", port=0)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_queue_that_tells_a_wrong_version_is_told_in_a_line(tmp_path: Path, version: int) -> None:
    path = tmp_path / "jobs.sqlite3"
    JobStore(path).close()
    with closing(sqlite3.connect(path)) as sql:
        sql.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(StorageDamaged, match=rf"says that it is of version {version}, but has other tables"):
        JobStore(path)


def test_more_columns_than_this_version_knows_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jobs.sqlite3"
    with closing(JobStore(path)) as store:
        job = store.add(a_request()).id
    with closing(sqlite3.connect(path)) as sql:
        for table in ("jobs", "owners", "timings"):
            sql.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT")
    with running_service(tmp_path / "data") as running:
        assert running.wait_for(job)["status"] == "succeeded"
        assert running.wait_for(running.submit()["id"])["status"] == "succeeded"


def test_other_programs_may_tidy_the_file_up_while_the_service_runs(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as running:
        for seed in range(20):
            running.wait_for(running.submit(seed=seed)["id"])
        with closing(sqlite3.connect(tmp_path / "data" / "jobs.sqlite3", isolation_level=None, timeout=30)) as sql:
            for statement in (
                "PRAGMA wal_checkpoint(TRUNCATE)",
                "DELETE FROM jobs",
                "VACUUM",
                "PRAGMA wal_checkpoint(TRUNCATE)",
            ):
                sql.execute(statement)
                assert running.http.get("/readyz").status_code == 200
                assert running.wait_for(running.submit()["id"])["status"] == "succeeded"


def test_a_mistake_in_our_sql_is_no_full_disk(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as running:
        with running.store.database.lock:
            running.store.database.connection.execute("ALTER TABLE jobs RENAME COLUMN pictures TO images")
        message = error_of(running.http.post("/v1/jobs", json={"prompt": "a"}), 500, "internal_error")["message"]
        assert "free some space" not in message
        assert "log" in message


def test_a_mistake_that_keeps_the_worker_from_drawing_is_told_by_the_readiness(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", storage_retry_s=0.1) as running:
        with running.store.database.lock:
            running.store.database.connection.execute("ALTER TABLE jobs RENAME COLUMN finished_at TO ended_at")
        running.worker.notify()
        wait_until(lambda: running.http.get("/readyz").status_code == 500)
        assert "fails again and again" in error_of(running.http.get("/readyz"), 500, "internal_error")["message"]
        with running.store.database.lock:
            running.store.database.connection.execute("ALTER TABLE jobs RENAME COLUMN ended_at TO finished_at")
        wait_until(lambda: running.http.get("/readyz").status_code == 200)


def test_a_file_that_another_program_holds_is_told_as_such(tmp_path: Path) -> None:
    with closing(JobStore(tmp_path / "jobs.sqlite3")) as store:
        store.database.connection.execute("PRAGMA busy_timeout = 10")
        with closing(sqlite3.connect(store.database.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="another program holds the queue's file") as refusal:
                store.add(a_request())
            assert "free some space" not in str(refusal.value)
        store.add(a_request())


def test_an_sqlite_that_is_too_old_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(BackendError, match=r"SQLite is 3\.34\.1, and the queue needs 3\.35 or newer"):
        JobStore(tmp_path / "jobs.sqlite3")
    assert not (tmp_path / "jobs.sqlite3").exists()

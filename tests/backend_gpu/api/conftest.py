from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.backend_gpu.api.running_service import RunningService, Serve, running_service


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service for all tests of a file that leave it as it was; each uses an owner of its own where that matters."""
    limits: dict[str, Any] = {"max_queued_jobs": 1000, "max_jobs_per_owner": 1000, "quota_pictures": 100_000}
    with running_service(tmp_path_factory.mktemp("shared"), **limits) as running:
        yield running


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Starts a service of the test's own: `with serve(max_queued_jobs=1) as running`."""

    def start(**options: Any) -> AbstractContextManager[RunningService]:
        return running_service(options.pop("data_dir", tmp_path / "data"), **options)

    return start

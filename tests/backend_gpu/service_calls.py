"""What tests ask of a running service over HTTP, wherever it runs."""

from typing import Any

import httpx

from tests.backend_gpu.waiting import wait_until


class ServiceCalls:
    """The calls that most tests need; `RunningService` and `ServiceProcess` say where they go."""

    http: httpx.Client

    def submit(self, **fields: Any) -> dict[str, Any]:
        """Submit a job and return its document."""
        answer = self.http.post("/v1/jobs", json={"prompt": "a red apple"} | fields)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_for(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """The job's document as soon as it has one of these states, by default any final one."""
        wanted = statuses or ("succeeded", "failed", "cancelled")
        wait_until(lambda: self.job(job_id)["status"] in wanted)
        return self.job(job_id)

"""What routes of every face take: the service, its token, headers and parts of paths."""

from typing import Annotated, cast

from fastapi import Depends, Header, Path, Request
from fastapi.security import HTTPBearer

from backend_gpu.jobs.job import JOB_ID
from backend_gpu.service import Service

# For the OpenAPI document; `Gate` checks it before any route is looked for
bearer = HTTPBearer(auto_error=False, description="the service's token; needed if it has one")


def service_of(request: Request) -> Service:
    """The service behind the app."""
    return cast("Service", request.app.state.service)


CurrentService = Annotated[Service, Depends(service_of)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="sent again with the same body: the same job",
    ),
]
JobId = Annotated[str, Path(pattern=f"^{JOB_ID.pattern}$", description="32 hexadecimal digits")]

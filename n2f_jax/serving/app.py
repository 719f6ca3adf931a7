"""The routes: ``POST /v1/heads``, ``GET /health``, ``GET /metrics``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import n2f_jax
from n2f_jax.serving import metrics
from n2f_jax.serving.answers import MEDIA_TYPES, Format, format_of
from n2f_jax.serving.problems import MEDIA_TYPE, Problem
from n2f_jax.serving.service import Service, read_body

_log = logging.getLogger(__name__)
_LARGEST_FOCAL = 1e7
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            },
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "heads, the largest first"},
    **{
        status: {"content": {MEDIA_TYPE: {}}, "description": text}
        for status, text in {
            400: "no photograph, or a damaged one",
            406: "no such answer",
            408: "the photograph did not arrive in time",
            413: "too many bytes or pixels",
            415: "something else than a photograph",
            422: "NPZ or GLB of a photograph without a face",
            503: "too many at once, or the server starts or stops",
            504: "the heads were not ready in time",
        }.items()
    },
}


def make_app(service: Service) -> FastAPI:
    """The application of one service, which it starts and closes."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        # Threads are joined in another one, so that this one can still answer.
        await asyncio.to_thread(service.close)

    # No pages of documentation: they load scripts from elsewhere.
    app = FastAPI(
        title="n2f-jax", version=n2f_jax.__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )

    @app.post("/v1/heads", openapi_extra=_BODY, responses=_ANSWERS, response_class=Response)
    async def heads(
        request: Request,
        format: Annotated[Format | None, Query(description="before Accept")] = None,
        focal: Annotated[
            float | None,
            Query(gt=0, le=_LARGEST_FOCAL, description="of the upright photograph, pixels; before EXIF's"),
        ] = None,
        mesh: Annotated[bool, Query(description="JSON with vertices and faces")] = False,
        face: Annotated[
            Literal["largest", "all"], Query(description="of NPZ and GLB; all: a ZIP archive")
        ] = "largest",
    ) -> Response:
        """Heads of one photograph."""
        form = format_of(format, request.headers.get("accept", ""))
        with service.admitted():
            content, kind = await _answer(service, request, focal, form, mesh, face == "all")
        return Response(content, media_type=kind)

    @app.get("/health")
    async def health() -> JSONResponse:
        """200 when photographs are let in, else 503."""
        said = {"status": service.state, "path": service.engine.path, "version": n2f_jax.__version__}
        return JSONResponse(said, 200 if service.is_ready else 503)

    @app.get("/metrics", response_class=Response)
    async def told() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> JSONResponse:
        headers = dict(error.headers)
        if not service.is_ready or error.status in (408, 413):
            # A body that was not read to its end, or a server that goes: nothing more on this connection.
            headers["Connection"] = "close"
        return JSONResponse(error.content(), error.status, headers, MEDIA_TYPE)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        said = "; ".join(f"{entry['loc'][-1]}: {entry['msg']}" for entry in error.errors())
        return await problem(request, Problem(400, said))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> JSONResponse:
        answer = await problem(request, Problem(error.status_code, str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer

    return app


async def _answer(
    service: Service, request: Request, focal: float | None, form: Format, mesh: bool, every_face: bool
) -> tuple[bytes, str]:
    """The answer within the time, or a problem; nothing else is raised."""
    reading = True
    try:
        async with asyncio.timeout(service.limits.seconds):
            most = service.limits.max_bytes
            body = await read_body(request.stream(), request.headers.get("content-length"), most)
            reading = False
            return await service.answer(
                request.headers.get("content-type", ""), body, focal, form, mesh, every_face
            )
    except Problem:
        raise
    except TimeoutError as error:
        seconds = f"{service.limits.seconds:g} s"
        if reading:
            raise Problem(408, f"the photograph did not arrive within {seconds}") from error
        raise Problem(504, f"the heads were not ready within {seconds}", retry_after=1) from error
    except ClientDisconnect as error:
        raise Problem(400, "the client left") from error
    except Exception as error:
        _log.exception("a photograph failed")
        raise Problem(500, "this photograph makes the server fail; its log says how") from error

"""The HTTP interface: FastAPI around a network, with limits, metrics and a page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response

from resattn.serving.answers import BatchBody, ModelBody, PredictionBody, StateBody
from resattn.serving.ascii_json import AsciiJSONResponse
from resattn.serving.front import Front
from resattn.serving.limits import Limits
from resattn.serving.metrics import CONTENT_TYPE
from resattn.serving.refusals import Refusal, RefusalBody
from resattn.serving.runtime import Runtime
from resattn.serving.service import Service
from resattn.serving.uploads import FORMATS
from resattn.serving.web_page import ASSETS, add_page
from resattn.version import __version__

_ABOUT = {
    400: "The client went away while it was sending.",
    401: "No token, or a wrong one.",
    403: "Sent by a page of another site.",
    408: "The body arrived too slowly.",
    413: "Too many bytes, pixels, scans, tiles or images.",
    415: "No image, or a body of another type.",
    422: "A damaged or empty image, a form without one, an option out of range.",
    429: "The queue is full; Retry-After says when to come back, in seconds.",
    503: "The server is stopping; Retry-After says when to come back, in seconds.",
    504: "No answer in time.",
}
Top = Annotated[int, Query(ge=1, le=1000, description="How many classes to name, the likeliest first.")]
Masks = Annotated[bool, Query(description="Also give the attention masks, as PNGs.")]


def create_app(runtime: Runtime, *, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The application that serves `runtime`; `app.state.service` is the `Service` behind it.

    With a `token`, everything under /v1 and /metrics needs the header `Authorization: Bearer TOKEN`; the page, which
    asks for it, and the health checks do not. The interface describes itself at /openapi.json.
    """
    service = Service(runtime, limits or Limits(), token=token)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="resattn",
        description=f"Names what is in images with {runtime.model}, and shows where it looked.",
        version=__version__,
        lifespan=lifespan,
        # Their pages load scripts from another host.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    # Only where there is a token to ask for: resolving it costs as much as the rest of a small request.
    allowed = [Depends(_token_check(service))] if token else []
    _add_predictions(app, service, allowed)
    _add_facts(app, service, allowed)
    _add_health(app, service)
    add_page(app)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unknown)
    paths = {"/v1/predict", "/v1/predict-batch", "/v1/model", "/healthz", "/readyz", "/metrics", *ASSETS}
    app.add_middleware(Front, service=service, paths=frozenset(paths))
    return app


def _add_predictions(app: FastAPI, service: Service, allowed: list[Any]) -> None:
    refusals = _refusals(400, 401, 403, 408, 413, 415, 422, 429, 503, 504)

    @app.post(
        "/v1/predict",
        response_model=PredictionBody,
        responses=refusals,
        dependencies=allowed,
        openapi_extra=_body("image", {"type": "string", "format": "binary"}),
    )
    async def predict(request: Request, top: Top = 5, masks: Masks = False) -> Response:
        """Name what is in one image: the body itself, or the field `image` of a form."""
        return AsciiJSONResponse(await service.predict(request, top=top, masks=masks))

    several = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}

    @app.post(
        "/v1/predict-batch",
        response_model=BatchBody,
        responses=refusals,
        dependencies=allowed,
        openapi_extra=_body("images", several | {"maxItems": service.limits.images}),
    )
    async def predict_batch(request: Request, top: Top = 5, masks: Masks = False) -> Response:
        """Name what is in several images, the files in the field `images` of a form; a bad one is told in its place."""
        return AsciiJSONResponse(await service.predict_batch(request, top=top, masks=masks))


def _add_facts(app: FastAPI, service: Service, allowed: list[Any]) -> None:
    runtime, limits = service.runtime, service.limits
    model = {
        "model": runtime.model,
        "data": runtime.data,
        "version": __version__,
        "input_size": list(runtime.input_size),
        "labels": list(runtime.labels),
        "descriptions": list(runtime.descriptions),
        "masks": list(runtime.mask_names),
        "limits": {"body_bytes": limits.body_bytes, "pixels": limits.pixels, "images": limits.images},
    }

    @app.get("/v1/model", response_model=ModelBody, responses=_refusals(401, 429, 503), dependencies=allowed)
    async def describe_model() -> Response:
        """The network, its classes and what a request may hold."""
        return AsciiJSONResponse(model)

    @app.get(
        "/metrics",
        response_class=Response,
        responses=_refusals(401) | {200: {"content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}},
        dependencies=allowed,
    )
    async def metrics() -> Response:
        """What the server has done, for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=StateBody)
    async def health() -> Response:
        """Whether the process answers."""
        return AsciiJSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=StateBody, responses=_refusals(503))
    async def ready() -> Response:
        """Whether new requests are taken; 503 from the moment the server is told to stop."""
        if service.stopping:
            raise Refusal(503, "the server is stopping", retry_after=2)
        return AsciiJSONResponse({"status": "ready"})


def _token_check(service: Service) -> Any:
    bearer = HTTPBearer(auto_error=False, description="The token that the server was started with.")

    async def check(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        service.require_token(sent.credentials if sent else None)

    return check


def _body(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The body of a request, for OpenAPI: a form, or the image itself where it is one."""
    form = {"type": "object", "properties": {field: schema}, "required": [field]}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    for kind in ("application/octet-stream", "image/*"):
        content[kind] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "requestBody": {
            "required": True,
            "description": f"Formats: {', '.join(FORMATS)}.",
            "content": content,
        }
    }


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": RefusalBody, "description": _ABOUT[status]} for status in statuses}


async def _refused(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refusal.response()


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    return Refusal(422, found, "see /openapi.json").response()


async def _unknown(request: Request, error: Exception) -> Response:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}: {error.detail}"
    return Refusal(error.status_code, what, "see /openapi.json", headers=error.headers).response()

"""What every request passes: refused while stopping or overrun, counted, timed, answered with headers of security."""

import asyncio
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resattn.serving.refusals import Refusal, stopping
from resattn.serving.service import Service

# Nothing from elsewhere, nothing inline; masks arrive as data:, and an image the user chose is shown as blob:.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
# Answered even while stopping, so that whoever watches can see it.
_ALWAYS = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST"})
logger = logging.getLogger("resattn.serving")


class Front:
    """ASGI middleware around the whole application; `paths` are those that the metrics know by name."""

    def __init__(self, app: ASGIApp, *, service: Service, paths: frozenset[str]) -> None:
        self._app = app
        self._service = service
        self._paths = paths
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        metrics = self._service.metrics
        self._in_flight += 1
        metrics.in_flight.inc()
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                self._service.taken += 1
            answer = self._app if refusal is None else refusal.response()
            await answer(scope, receive, send_with_headers)
        except asyncio.CancelledError:  # only at the end, of what could not be waited for
            self._service.given_up += 1
            raise
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if status is None:
                failed = Refusal(500, "the server failed", "its log says why")
                await failed.response()(scope, receive, send_with_headers)
        finally:
            self._in_flight -= 1
            metrics.in_flight.dec()
            path = scope["path"] if scope["path"] in self._paths else "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            metrics.request(path, method, status or 500, time.perf_counter() - begun)

    def _refusal(self, scope: Scope) -> Refusal | None:
        if scope["path"] in _ALWAYS:
            return None
        if scope["method"] == "POST" and (b"sec-fetch-site", b"cross-site") in scope["headers"]:
            # A browser would not show that page the answer, but have it computed, by a server only its user can reach.
            return Refusal(
                403, "another site's page sent this", "send it from this server's page or a program"
            )
        if self._service.stopping:
            return stopping()
        if self._in_flight > self._service.limits.requests:
            return Refusal(
                429, "the server has too many requests at once", "send it again in a second", retry_after=1
            )
        return None

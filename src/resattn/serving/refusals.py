"""Requests that are not answered as asked: each kind with its status, and a text that says what mends it.

401 no token, or a wrong one · 403 sent by another site's page · 408 a request that arrives too slowly · 413 too many
bytes, pixels, scans, tiles or images · 415 no image, or sent as something else · 422 an image that is damaged or empty,
a form without one, an option out of range · 429 the queue is full · 431 a head that is too long · 503 the server is
stopping, or has too many connections · 504 no answer in time. 429 and 503 carry Retry-After, in seconds. The body is
`{"error": ..., "mend": ...}` for all.
"""

from collections.abc import Mapping

from pydantic import BaseModel, Field

from resattn.serving.ascii_json import AsciiJSONResponse


class RefusalBody(BaseModel):
    """What was wrong, and what mends it."""

    error: str = Field(description="What was wrong, in words.")
    mend: str = Field(description="What puts it right; may be empty.")


class Refusal(Exception):
    """A request that is answered with `status` instead of what it asked for.

    `what` and `mend` are sentences for the client; `retry_after` is in whole seconds.
    """

    def __init__(
        self,
        status: int,
        what: str,
        mend: str = "",
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status}: {what}")
        self.status = status
        self.what = what
        self.mend = mend
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    def response(self) -> AsciiJSONResponse:
        """The refusal as it is sent."""
        body = RefusalBody(error=self.what, mend=self.mend)
        return AsciiJSONResponse(body.model_dump(), status_code=self.status, headers=self.headers)


def stopping() -> Refusal:
    """What a request meets after the server was told to stop."""
    return Refusal(
        503,
        "the server is stopping",
        "send it again in a moment, to the server that follows",
        retry_after=2,
        headers={"Connection": "close"},
    )

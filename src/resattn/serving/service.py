"""The service behind the routes: takes uploads, has them decoded and computed, and gives what is to be sent."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request

from resattn.serving.answers import prediction_json
from resattn.serving.batching import Answer, Batcher
from resattn.serving.limits import Limits
from resattn.serving.metrics import Metrics
from resattn.serving.multipart import Upload
from resattn.serving.refusals import Refusal
from resattn.serving.runtime import Runtime
from resattn.serving.uploads import Uploads


class Service:
    """One network, served: `start` and `stop` frame its life, `stopping` says that nothing new is taken.

    `taken` counts the requests that were, `given_up` those of them that the server ended without an answer to, because
    its time was over or it was told to a second time. With a `token`, they have to carry it.
    """

    def __init__(self, runtime: Runtime, limits: Limits, *, token: str | None = None) -> None:
        self.runtime = runtime
        self.limits = limits
        self.metrics = Metrics()
        self.stopping = False
        self.taken = 0
        self.given_up = 0
        self._token = token.encode() if token else None
        self._uploads = Uploads(limits, size=runtime.input_size[-1])
        self._batcher = Batcher(runtime, limits, report=self.metrics.batch)
        self.metrics.queue.set_function(lambda: self._batcher.taken)

    def warm_up(self) -> None:
        """Run the network, before clients wait for it; see `Batcher.warm_up`."""
        self._batcher.warm_up()

    async def start(self) -> None:
        """Begin to compute."""
        self._batcher.start()
        self.metrics.ready.set(1)

    async def stop(self) -> None:
        """End the threads, once what they have is done."""
        self.refuse_new()
        await asyncio.to_thread(self._batcher.close)
        self._uploads.close()

    def refuse_new(self) -> None:
        """From now on only what was taken already is answered."""
        self.stopping = True
        self.metrics.ready.set(0)

    def require_token(self, sent: str | None) -> None:
        """Raise Refusal 401 unless `sent` is the token, compared in constant time; nothing where there is none."""
        if self._token is None or (sent and hmac.compare_digest(sent.encode(), self._token)):
            return
        raise Refusal(
            401,
            "the token is wrong" if sent else "this server asks for a token",
            "send the header `Authorization: Bearer TOKEN`",
            headers={"WWW-Authenticate": "Bearer"},
        )

    async def predict(self, request: Request, *, top: int, masks: bool) -> dict[str, Any]:
        """A `PredictionBody` of the image in a request. Raises Refusal."""
        async with self._uploads.files(request, field="image") as files:
            if len(files) > 1:
                raise Refusal(
                    422, f"the form has {len(files)} images", "send one, or all of them to /v1/predict-batch"
                )
            async with self._accepted(1):
                return await self._one(files[0], top, masks)

    async def predict_batch(self, request: Request, *, top: int, masks: bool) -> dict[str, Any]:
        """A `BatchBody` of the images in a request. Raises Refusal for the request, but not for one of its images."""
        async with self._uploads.files(request, field="images") as files, self._accepted(len(files)):
            entries = await asyncio.gather(*(self._one_or_why(file, top, masks) for file in files))
        return {"predictions": entries}

    @asynccontextmanager
    async def _accepted(self, images: int) -> AsyncIterator[None]:
        """Places in the queue, for a limited time; raises Refusal 429 where it is full, 504 when the time is over."""
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                with self._batcher.places(images):
                    yield
        except TimeoutError as error:
            raise Refusal(
                504, f"there was no answer within {self.limits.answer_seconds:g} s", "send it again later"
            ) from error

    async def _one(self, upload: Upload, top: int, masks: bool) -> dict[str, Any]:
        pixels = await self._uploads.pixels(upload)
        answer = await self._batcher.submit(pixels, masks=masks)
        if not masks:
            return self._json(upload, answer, top, masks)
        # Drawing PNGs takes its time, and the event loop has others to serve.
        return await self._uploads.in_pool(lambda: self._json(upload, answer, top, masks))

    async def _one_or_why(self, upload: Upload, top: int, masks: bool) -> dict[str, Any]:
        try:
            return await self._one(upload, top, masks)
        except Refusal as refusal:
            return {
                "source": upload.name,
                "error": refusal.what,
                "mend": refusal.mend,
                "status": refusal.status,
            }

    def _json(self, upload: Upload, answer: Answer, top: int, masks: bool) -> dict[str, Any]:
        return prediction_json(self.runtime, answer, upload.name, top=top, masks=masks)

"""What one client, and all of them together, may ask of the server."""

import math
from dataclasses import dataclass, fields

from resattn.data.decoding import MAX_PIXELS
from resattn.errors import ResattnError


@dataclass(frozen=True)
class Limits:
    """The limits of a server; each has its own status (see `resattn.serving.refusals`).

    body_bytes: of one request. pixels: width times height of one image, before it is made smaller. images: of one
    request. requests: in the server at once, uploads included. held_bytes: of all bodies, from their first byte to
    the answer. queue: images decoded or waiting or being computed. batch: images computed at once. gather_seconds:
    how long the first image of a batch waits for others. upload_seconds: from the head of a request to the end of
    its body. head_seconds: from a connection, or the first byte of a request on it, to the end of its head.
    head_bytes: of that head, and the headers behind a body. answer_seconds: from the end of the body to the answer.
    connections: open at once, idle ones included. Raises ResattnError for anything that is not above 0 or has no
    end, and for a queue that one request can never fit into.
    """

    body_bytes: int = 16 * 2**20
    pixels: int = 50_000_000
    images: int = 32
    requests: int = 256
    held_bytes: int = 512 * 2**20
    queue: int = 128
    batch: int = 32
    gather_seconds: float = 0.002
    upload_seconds: float = 30.0
    head_seconds: float = 10.0
    head_bytes: int = 32 * 2**10
    answer_seconds: float = 20.0
    connections: int = 900

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise ResattnError(f"the limit {field.name} is {value}", "give a number above 0")
        if self.pixels > MAX_PIXELS:
            raise ResattnError(
                f"the limit of pixels is {self.pixels:,}", f"images are decoded up to {MAX_PIXELS:,}"
            )
        if self.images > self.queue:
            raise ResattnError(
                f"a request may hold {self.images} images, and the queue only {self.queue}",
                "make the queue as long at least",
            )
        if self.body_bytes > self.held_bytes:
            raise ResattnError(
                f"one body may have {self.body_bytes:,} bytes, and all together {self.held_bytes:,}",
                "let all together have as many at least",
            )

"""What the server has done, in Prometheus' text format."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The server's counters, in a registry of their own.

    requests: by path, method and status. request_seconds: from the head of a request to the end of its answer, by path.
    batch_images, batch_seconds: of each batch the network computed; their sums are images, and seconds of computing.
    queue: places taken in the queue. in_flight: requests being served. ready: 1, or 0 while stopping.
    """

    def __init__(self) -> None:
        # A second series for every one, which says when it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "resattn_requests", "Requests answered.", ("path", "method", "status"), registry=self._registry
        )
        self.request_seconds = Histogram(
            "resattn_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_images = Histogram(
            "resattn_batch_images", "Images computed at once.", buckets=_IMAGES, registry=self._registry
        )
        self.batch_seconds = Histogram(
            "resattn_batch_seconds",
            "Seconds of computing a batch.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.queue = Gauge("resattn_queue_images", "Places of the queue taken.", registry=self._registry)
        self.in_flight = Gauge(
            "resattn_requests_in_flight", "Requests being served.", registry=self._registry
        )
        self.ready = Gauge("resattn_ready", "1 while new requests are taken.", registry=self._registry)

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_images.observe(images)
        self.batch_seconds.observe(seconds)

    def request(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request; `path` is one of the server's own, or "other"."""
        self.requests.labels(path, method, str(status)).inc()
        self.request_seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

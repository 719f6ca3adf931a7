"""What a server tells of itself, in the text format that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one server.

    Attributes:
        accepted: photographs that were let in.
        answered: of those, the ones that got an answer, by its status.
        refused: those that were not let in, by status.
        seconds: from a photograph's being let in to its answer.
        stage: of those, what unpacking and finding faces (``prepare``), waiting, computing and packing take.
        batch: photographs computed together.
        faces: heads in answers.
    """

    def __init__(self, inside: Callable[[], int], waiting: Callable[[], int], ready: Callable[[], bool]):
        """The functions give what is so at the moment."""
        self._registry = registry = CollectorRegistry()
        self.accepted = Counter("n2f_accepted", "Photographs let in.", registry=registry)
        self.answered = Counter(
            "n2f_answered", "Answers to photographs that were let in.", ["status"], registry=registry
        )
        self.refused = Counter("n2f_refused", "Photographs not let in.", ["status"], registry=registry)
        self.faces = Counter("n2f_faces", "Heads in answers.", registry=registry)
        self.seconds = Histogram(
            "n2f_request_seconds", "From let in to answered.", buckets=_SECONDS, registry=registry
        )
        self.stage = Histogram(
            "n2f_stage_seconds", "Of one stage.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self.batch = Histogram(
            "n2f_batch_size",
            "Photographs computed together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        for name, text, function in (
            ("n2f_inside", "Photographs let in and not yet answered.", inside),
            ("n2f_waiting", "Photographs that wait for their batch.", waiting),
            ("n2f_ready", "1 when everything is compiled.", ready),
        ):
            Gauge(name, text, registry=registry).set_function(lambda function=function: float(function()))

    def batch_began(self, count: int, waited: Sequence[float]) -> None:
        """As ``batcher.Batcher`` tells it."""
        self.batch.observe(count)
        for seconds in waited:
            self.stage.labels("wait").observe(seconds)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)

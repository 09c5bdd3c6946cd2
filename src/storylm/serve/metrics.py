"""What Prometheus reads at /metrics, of one server."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from storylm.serve.batcher import Batcher

PATHS = ("/", "/health", "/metrics", "/v1/attention", "/v1/completions", "/v1/models")
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class _Told(Collector):
    """A counter of what the batcher counts."""

    def __init__(self, batcher: Batcher):
        self._batcher = batcher

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily("storylm_tokens_told", "Tokens told", value=self._batcher.told_tokens)


class Metrics:
    """Counters of requests and tokens, what is on its way, and how long answers took."""

    def __init__(self, batcher: Batcher):
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("storylm_requests", "Requests answered", ["path", "status"], registry=registry)
        self.first = Histogram(
            "storylm_first_token_seconds", "From a request to a story's first token", registry=registry, buckets=SECONDS
        )
        self.whole = Histogram(
            "storylm_completion_seconds",
            "From a request to its end, if it was told",
            registry=registry,
            buckets=SECONDS,
        )
        self.outcomes = Counter(
            "storylm_completions", "Requests for stories: told, cancelled, late, failed", ["outcome"], registry=registry
        )
        registry.register(_Told(batcher))
        for name, text, value in (
            ("storylm_stories_running", "Stories that tokens are drawn for", lambda: batcher.running),
            ("storylm_stories_waiting", "Stories that wait for a slot", lambda: max(0, batcher.jobs - batcher.running)),
        ):
            Gauge(name, text, registry=registry).set_function(value)

    def count(self, path: str, status: int) -> None:
        """An answer; paths that are none of ours are one to us, whatever they are."""
        self._requests.labels(path if path in PATHS else "other", status).inc()

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self._registry)

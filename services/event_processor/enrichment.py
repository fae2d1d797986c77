"""What is added to an event: total tokens, the provider a model belongs to, the duration of its session."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from shared.contracts import exact_json
from shared.contracts.envelope import Event

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SESSION_FIELD = "session_started_at"


def enrich(event: Event, provider_of: Callable[[str], str]) -> None:
    """Fill in what the sender left out; what it stated is never changed."""
    metrics = event.metrics
    if event.service_type == "llm_service" and "total_tokens" not in metrics:
        metrics["total_tokens"] = metrics.get("input_tokens", 0) + metrics.get("output_tokens", 0)
    if not event.service_provider and event.model:
        event.service_provider = provider_of(event.model)
    if _SESSION_FIELD in event.metadata and "session_duration_ms" not in metrics:
        duration = _session_milliseconds(event)
        if duration is not None:
            metrics["session_duration_ms"] = duration


def _session_milliseconds(event: Event) -> int | None:
    """Time since `metadata.session_started_at`, if that is an RFC 3339 instant before the event."""
    started = exact_json.loads(event.metadata).get(_SESSION_FIELD)
    try:
        moment = datetime.fromisoformat(started)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        return None
    elapsed = (event.occurred_at - (moment - _EPOCH) // timedelta(microseconds=1)) // 1000
    return elapsed if elapsed >= 0 else None

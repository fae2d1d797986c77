"""The demo's month: the same however often it is made, and every event of it acceptable."""

from datetime import UTC, datetime
from itertools import pairwise

from launcher.demo import _PROFILES, _month
from services.api_gateway.validation import Context, canonical_event
from shared.contracts import exact_json
from shared.domain.service_types import SHIPPED

NOW = datetime(2026, 3, 31, 15, 30, tzinfo=UTC)
MICROSECONDS = int(NOW.timestamp()) * 1_000_000
CONTEXT = Context(
    tenant_id="demo",
    customer_id=None,
    default_customer_id="",
    received_at=MICROSECONDS,
    oldest=MICROSECONDS - 32 * 86_400_000_000,
    newest=MICROSECONDS,
    request_id="request",
)


def test_every_event_is_valid_and_none_is_ahead_of_the_clock() -> None:
    for profile in _PROFILES:
        events = [exact_json.loads(exact_json.dumps(event)) for event in _month(profile, NOW)]
        assert len(events) > 1_500
        assert len({event["event_id"] for event in events}) == len(events)
        for event in events:
            canonical_event(event, CONTEXT, kind=SHIPPED[event["service_type"]], make_id=lambda: "never asked for")


def test_a_day_gives_the_same_events_whenever_it_is_made() -> None:
    hours = [NOW.replace(hour=hour) for hour in (9, 12, 20)]
    months = [{event["event_id"]: event for event in _month(_PROFILES[0], moment)} for moment in hours]
    for earlier, later in pairwise(months):
        assert earlier.items() <= later.items()

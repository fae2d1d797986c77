"""From what was asked to what is read: whose usage, which window, in whose days, and only what matches."""

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from services.query_service.schemas.parameters import FilterParameters, GroupParameters, WindowParameters
from shared.domain.errors import InvalidRequest, MissingScope
from shared.domain.tenancy import TenantScope
from shared.domain.windows import Period, Window, checked_instant, checked_window, default_window, invalid_window
from shared.storage.usage_queries import UsageFilters

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, when, and what they may see. `customer_id` is the one they named, if they did."""

    scope: TenantScope
    may_read_costs: bool
    customer_id: str | None
    now: datetime

    def require_costs(self, what: str) -> None:
        if not self.may_read_costs:
            raise MissingScope(f"{what} shows costs, and this key lacks the scope `costs:read`.")


@dataclass(frozen=True, slots=True)
class Asked:
    """The window of a question, and the zone its days are in."""

    window: Window
    zone: ZoneInfo


def asked(parameters: WindowParameters, caller: Caller, *, period: Period = Period.DAY) -> Asked:
    """Raises InvalidRequest or InvalidWindow, naming the parameter and what it should be. `period` decides how far back
    a question without dates reaches."""
    zone = _zone(parameters.timezone or caller.scope.timezone)
    start = end = None
    if parameters.start_date is not None:
        start = _instant("start_date", parameters.start_date, zone)
    if parameters.end_date is not None:
        end = _instant("end_date", parameters.end_date, zone)
    default = default_window(period, zone, now=caller.now, end=end)
    return Asked(checked_window(start or default.start, end or default.end), zone)


def usage_filters(parameters: GroupParameters, caller: Caller) -> UsageFilters:
    filters = UsageFilters(
        service_type=parameters.service_type,
        service_provider=parameters.service_provider,
        model=parameters.model,
        event_type=parameters.event_type,
        customer_id=caller.customer_id,
        job_type=parameters.job_type,
        status=parameters.status,
    )
    if isinstance(parameters, FilterParameters):
        return replace(filters, user_id=parameters.user_id, tags=tuple(parameters.tags))
    return filters


def _instant(field: str, stated: str, zone: ZoneInfo) -> datetime:
    """A date is local midnight, as `end_date` the one after it: the day is included. A time without offset is local."""
    try:
        if _DATE.fullmatch(stated):
            day = date.fromisoformat(stated) + timedelta(days=field == "end_date")
            moment = datetime(day.year, day.month, day.day, tzinfo=zone)
        else:
            # a `+` that was not escaped arrives as a space
            moment = datetime.fromisoformat(stated.replace(" ", "+") if "T" in stated else stated)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
        return checked_instant(field, moment)
    except (ValueError, OverflowError):
        message = "must be a date (2026-01-31) or an RFC 3339 instant (2026-01-31T09:30:00Z)"
        raise invalid_window(field, "invalid_instant", message) from None


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> ZoneInfo:
    if name not in _zone_names():
        message = "must be an IANA time zone, e.g. `Europe/Berlin` or `UTC`"
        raise InvalidRequest(
            f"timezone {message}.", errors=[{"field": "timezone", "code": "unknown_timezone", "message": message}]
        )
    return ZoneInfo(name)

"""Windows of time: which buckets a question is about, and which rollups answer it.

A window is half-open, [start, end), in UTC. `buckets` lists the hours, days, weeks or months of it in any time zone;
`cut` covers a window with the coarsest rollup buckets that lie in it, finer ones towards its edges, and leaves what is
not on a 15-minute line to the events themselves.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from shared.domain.errors import InvalidWindow
from shared.domain.periods import Grain, bucket_start, next_bucket

MAX_WINDOW: Final = timedelta(days=5 * 366)
MAX_BUCKETS: Final = 5_000
# Since then every time zone is a whole number of quarter hours from UTC, so rollups are exact in all of them.
EARLIEST: Final = datetime(1980, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


class Period(StrEnum):
    """What an answer is broken down by."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


_GRAIN: Final = {Period.DAY: Grain.DAY, Period.WEEK: Grain.WEEK, Period.MONTH: Grain.MONTH}
# How many periods a question without dates is about, the current one included.
_DEFAULT_COUNT: Final = {Period.HOUR: 48, Period.DAY: 30, Period.WEEK: 12, Period.MONTH: 12}


class Window(NamedTuple):
    """[start, end), both in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a window, answered by whole buckets of one grain, or by raw events where `grain` is None."""

    grain: Grain | None
    start: datetime
    end: datetime


# --- what a question is about -----------------------------------------------------------------------------------------


def checked_window(start: datetime, end: datetime) -> Window:
    """Raises InvalidWindow, saying what to change, when no sensible question has this window."""
    start, end = checked_instant("start_date", start), checked_instant("end_date", end)
    if end <= start:
        raise invalid_window("end_date", "reversed_window", f"must be after start_date, {_z(start)}")
    if end - start > MAX_WINDOW:
        raise invalid_window("start_date", "window_too_long", "is over 5 years before end_date; ask for less")
    return Window(start, end)


def checked_instant(field: str, moment: datetime) -> datetime:
    """The instant in UTC. Raises InvalidWindow outside the years for which windows are exact."""
    if not EARLIEST <= moment <= LATEST:
        raise invalid_window(field, "out_of_range", f"must lie between {EARLIEST.year} and {LATEST.year}")
    return moment.astimezone(UTC)


def default_window(period: Period, zone: ZoneInfo, *, now: datetime, end: datetime | None = None) -> Window:
    """The last 48 hours, 30 days, 12 weeks or 12 months of `zone`, the current one included to its end: an event whose
    clock is a little ahead is in it. `end`, where given, takes the place of the current period's end."""
    line = _period_start(now if end is None else end - timedelta(microseconds=1), period, zone)
    end = _next_period(line, period, zone) if end is None else end
    for _ in range(_DEFAULT_COUNT[period] - 1):
        line = _period_start(line - timedelta(microseconds=1), period, zone)
    return Window(line, end)


def buckets(window: Window, period: Period, zone: ZoneInfo) -> list[Window]:
    """The periods of `zone` that the window touches, in order; the first and last only as far as they lie in it."""
    found: list[Window] = []
    start = window.start
    while start < window.end:
        end = min(_next_period(start, period, zone), window.end)
        found.append(Window(start, end))
        if len(found) > MAX_BUCKETS:
            message = f"holds more than {MAX_BUCKETS} {period}s; ask for a shorter window or a longer period"
            raise invalid_window("period", "too_many_buckets", message)
        start = end
    return found


def invalid_window(field: str, code: str, message: str) -> InvalidWindow:
    return InvalidWindow(f"{field} {message}.", errors=[{"field": field, "code": code, "message": message}])


def _period_start(at: datetime, period: Period, zone: ZoneInfo) -> datetime:
    if grain := _GRAIN.get(period):
        return bucket_start(at, grain, zone)
    local = at.astimezone(zone)
    return at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _next_period(at: datetime, period: Period, zone: ZoneInfo) -> datetime:
    """The first line of the period after `at`, which need not be on a line itself."""
    if grain := _GRAIN.get(period):
        return next_bucket(bucket_start(at, grain, zone), grain, zone)
    # Hours of the clock on the wall, which in half of Asia do not start when an hour of UTC does.
    return _period_start(at, period, zone) + timedelta(hours=1)


def _z(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


# --- what answers it --------------------------------------------------------------------------------------------------


def ladder(available: Collection[Grain], period: Period | None = None) -> list[Grain]:
    """The grains to cut with, coarsest first. Weeks do not nest in months: they serve only questions by week."""
    left_out = Grain.MONTH if period is Period.WEEK else Grain.WEEK
    return sorted((grain for grain in available if grain is not left_out), reverse=True)


def cut(window: Window, zone: ZoneInfo, grains: Sequence[Grain]) -> list[Segment]:
    """Segments that tile the window without gap or overlap, in order.

    `zone` is the one the rollups are kept in, `grains` the ones to use, coarsest first. A window whose own lines come
    from another zone is cut as exactly; its edges are only finer.
    """
    start, end = window
    if start >= end:
        return []
    if not grains:
        return [Segment(None, start, end)]
    grain, *finer = grains
    last = bucket_start(end, grain, zone)
    first = bucket_start(start, grain, zone)
    if first < start:
        first = next_bucket(first, grain, zone)
    if first >= last:
        return cut(window, zone, finer)
    return [
        *cut(Window(start, first), zone, finer),
        Segment(grain, first, last),
        *cut(Window(last, end), zone, finer),
    ]

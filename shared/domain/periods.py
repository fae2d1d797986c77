"""Grains and buckets: which rollup bucket an instant falls into, in the tenant's time zone.

Quarter hours and hours are cut in UTC: every current zone is a whole number of quarter hours from UTC, so quarter hours
are exact anywhere. Days, weeks (Monday) and months are cut at local midnight. All buckets are half-open. Bucket starts
are computed here and nowhere else: two tables of zone rules (this one and the database's) could disagree.
"""

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from zoneinfo import ZoneInfo


class Grain(IntEnum):
    """Ordered from fine to coarse; the number is what the rollup tables store."""

    QUARTER_HOUR = 1
    HOUR = 2
    DAY = 3
    WEEK = 4
    MONTH = 5


QUARTER_HOUR_MICROSECONDS = 15 * 60 * 1_000_000
_STEP = {Grain.QUARTER_HOUR: timedelta(minutes=15), Grain.HOUR: timedelta(hours=1)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def bucket_start(at: datetime, grain: Grain, zone: ZoneInfo) -> datetime:
    """The start (UTC) of the bucket of `grain` that holds `at`. `at` must know its zone."""
    if step := _STEP.get(grain):
        return _EPOCH + (at - _EPOCH) // step * step
    day = at.astimezone(zone).date()
    if grain is Grain.WEEK:
        day -= timedelta(days=day.weekday())
    elif grain is Grain.MONTH:
        day = day.replace(day=1)
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def next_bucket(start: datetime, grain: Grain, zone: ZoneInfo) -> datetime:
    """The start of the bucket after the one that starts at `start`."""
    if step := _STEP.get(grain):
        return start + step
    day = start.astimezone(zone).date()
    if grain is Grain.DAY:
        day += timedelta(days=1)
    elif grain is Grain.WEEK:
        day += timedelta(days=7)
    else:
        day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)

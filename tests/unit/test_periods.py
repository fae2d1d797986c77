"""Buckets are what the wall clock of their zone says, whatever the zone does at midnight."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.domain.periods import Grain, bucket_start, next_bucket

# offsets of three quarters of an hour, half-hour summer time, midnights that do not exist or come twice
ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Asia/Kathmandu",
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",
        "America/Asuncion",
        "America/Santiago",
        "Asia/Beirut",
        "Asia/Tehran",
        "Africa/Casablanca",
        "Australia/Lord_Howe",
        "Pacific/Chatham",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
    )
]
zones = st.sampled_from(ZONES)
instants = st.integers(0, 22 * 365 * 86_400).map(
    lambda seconds: datetime(2015, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
grains = st.sampled_from(Grain)
NESTED = [*((Grain.QUARTER_HOUR, coarser) for coarser in Grain), (Grain.DAY, Grain.WEEK), (Grain.DAY, Grain.MONTH)]
HAVANA_SPRINGS_AT_MIDNIGHT = datetime(2025, 3, 9, 5, tzinfo=UTC)


def local_label(at: datetime, grain: Grain, zone: ZoneInfo) -> tuple[int, ...]:
    day = at.astimezone(zone).date()
    return {
        Grain.DAY: (day.toordinal(),),
        Grain.WEEK: tuple(day.isocalendar()[:2]),
        Grain.MONTH: (day.year, day.month),
    }[grain]


@given(instants, grains, zones)
@example(HAVANA_SPRINGS_AT_MIDNIGHT, Grain.DAY, ZoneInfo("America/Havana"))
@example(HAVANA_SPRINGS_AT_MIDNIGHT - timedelta(microseconds=1), Grain.DAY, ZoneInfo("America/Havana"))
def test_every_instant_is_in_one_bucket_and_buckets_touch(at: datetime, grain: Grain, zone: ZoneInfo) -> None:
    start = bucket_start(at, grain, zone)
    end = next_bucket(start, grain, zone)
    assert start <= at < end
    assert bucket_start(start, grain, zone) == start
    assert bucket_start(end - timedelta(microseconds=1), grain, zone) == start
    assert bucket_start(end, grain, zone) == end


@given(instants, st.timedeltas(timedelta(), timedelta(days=40)), st.sampled_from(list(Grain)[2:]), zones)
def test_two_instants_share_a_bucket_when_the_wall_clock_says_so(
    at: datetime, distance: timedelta, grain: Grain, zone: ZoneInfo
) -> None:
    is_shared = bucket_start(at, grain, zone) == bucket_start(at + distance, grain, zone)
    assert is_shared == (local_label(at, grain, zone) == local_label(at + distance, grain, zone))


@given(instants, st.sampled_from(NESTED), zones)
def test_a_finer_bucket_lies_within_one_coarser_bucket(at: datetime, pair: tuple[Grain, Grain], zone: ZoneInfo) -> None:
    finer, coarser = pair
    start = bucket_start(at, finer, zone)
    last = next_bucket(start, finer, zone) - timedelta(microseconds=1)
    assert bucket_start(start, coarser, zone) == bucket_start(last, coarser, zone)


@given(instants, grains, zones, zones)
def test_the_zone_an_instant_is_written_in_does_not_matter(
    at: datetime, grain: Grain, zone: ZoneInfo, other: ZoneInfo
) -> None:
    assert bucket_start(at.astimezone(other), grain, zone) == bucket_start(at, grain, zone)


def test_every_zone_is_a_whole_number_of_quarter_hours_from_utc_all_year() -> None:
    moments = [datetime(year, month, 15, tzinfo=UTC) for year in (2020, 2026, 2036) for month in range(1, 13)]
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for moment in moments:
            offset = moment.astimezone(zone).utcoffset()
            assert offset is not None
            assert offset % timedelta(minutes=15) == timedelta(), (name, moment)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC), 23),
        ("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), 25),
        ("America/Havana", datetime(2025, 3, 9, 12, tzinfo=UTC), 23),  # there is no midnight on that day
        ("America/Havana", datetime(2025, 11, 2, 12, tzinfo=UTC), 25),  # and two on that one
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 20, tzinfo=UTC), 24.5),
        ("Asia/Kathmandu", datetime(2026, 3, 29, tzinfo=UTC), 24),
    ],
)
def test_a_local_day_is_as_long_as_its_clock_says(zone: str, day: datetime, hours: float) -> None:
    start = bucket_start(day, Grain.DAY, ZoneInfo(zone))
    assert next_bucket(start, Grain.DAY, ZoneInfo(zone)) - start == timedelta(hours=hours)


def test_a_day_that_a_zone_skipped_has_no_length() -> None:
    apia = ZoneInfo("Pacific/Apia")  # went from the 29th to the 31st of December 2011
    start = bucket_start(datetime(2011, 12, 29, 20, tzinfo=UTC), Grain.DAY, apia)
    assert next_bucket(start, Grain.DAY, apia) == bucket_start(datetime(2011, 12, 31, tzinfo=UTC), Grain.DAY, apia)


def test_weeks_start_on_monday_and_months_on_the_first() -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    at = datetime(2026, 2, 28, 18, 15, tzinfo=UTC)  # the first instant of Sunday, 1 March 2026 in Kathmandu
    assert bucket_start(at, Grain.WEEK, zone) == datetime(2026, 2, 22, 18, 15, tzinfo=UTC)
    assert bucket_start(at, Grain.MONTH, zone) == at
    assert bucket_start(at - timedelta(seconds=1), Grain.MONTH, zone) == datetime(2026, 1, 31, 18, 15, tzinfo=UTC)

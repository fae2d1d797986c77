"""Windows: what covers them leaves no gap and no overlap, in any zone, across every change of the clock."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.domain.errors import InvalidWindow
from shared.domain.periods import Grain, bucket_start
from shared.domain.windows import MAX_BUCKETS, Period, Window, buckets, checked_window, cut, default_window, ladder

ZONES = [
    "UTC",
    "Asia/Kolkata",  # +5:30
    "Asia/Kathmandu",  # +5:45
    "America/St_Johns",  # -3:30, with summer time
    "Europe/Berlin",
    "Australia/Lord_Howe",  # summer time of half an hour
    "America/Havana",  # changes at midnight: some days have no 00:00, some have two
    "Asia/Beirut",  # goes back to the evening before
    "Pacific/Apia",  # had no 30 December 2011
    "America/Nuuk",
    "Pacific/Chatham",
]
USER_GRAINS = (Grain.QUARTER_HOUR, Grain.DAY, Grain.MONTH)
QUARTER_HOUR = timedelta(minutes=15)

zones = st.sampled_from(ZONES).map(ZoneInfo)
# on a line, near a line, or anywhere
instants = st.builds(
    lambda quarter, extra: datetime(2011, 12, 1, tzinfo=UTC) + quarter * QUARTER_HOUR + extra,
    st.integers(0, 96 * 366 * 15),
    st.one_of(st.just(timedelta(0)), st.timedeltas(timedelta(0), QUARTER_HOUR), st.just(-timedelta(microseconds=1))),
)
lengths = st.one_of(
    st.timedeltas(timedelta(microseconds=1), timedelta(hours=3)),
    st.timedeltas(timedelta(hours=1), timedelta(days=800)),
    st.integers(1, 96 * 90).map(lambda quarters: quarters * QUARTER_HOUR),
)
windows = st.builds(lambda start, length: Window(start, start + length), instants, lengths)
ladders = st.sampled_from([ladder(Grain), ladder(Grain, Period.WEEK), ladder(USER_GRAINS), [Grain.QUARTER_HOUR], []])


def tile(window: Window, parts: list[tuple[datetime, datetime]]) -> bool:
    return (
        parts[0][0] == window.start
        and parts[-1][1] == window.end
        and all(before[1] == after[0] for before, after in pairwise(parts))
        and all(start < end for start, end in parts)
    )


@given(windows, zones, ladders)
@example(
    Window(datetime(2011, 12, 29, tzinfo=UTC), datetime(2012, 1, 2, tzinfo=UTC)),
    ZoneInfo("Pacific/Apia"),
    ladder(Grain),
)
def test_segments_tile_the_window_in_whole_buckets(window: Window, zone: ZoneInfo, grains: list[Grain]) -> None:
    segments = cut(window, zone, grains)
    assert tile(window, [(segment.start, segment.end) for segment in segments])
    for segment in segments:
        if segment.grain is not None:
            assert segment.grain in grains
            assert bucket_start(segment.start, segment.grain, zone) == segment.start
            assert bucket_start(segment.end, segment.grain, zone) == segment.end
    assert len(segments) <= 13


@given(windows, zones)
def test_raw_events_serve_only_edges_of_less_than_a_quarter_hour(window: Window, zone: ZoneInfo) -> None:
    segments = cut(window, zone, ladder(Grain))
    raw = [segment for segment in segments if segment.grain is None]
    assert len(raw) <= 2
    assert all(segment.end - segment.start < 2 * QUARTER_HOUR for segment in raw)
    assert len(segments) == 1 or all(segment in (segments[0], segments[-1]) for segment in raw)


@given(windows, zones, ladders)
def test_the_coarsest_buckets_that_fit_are_used(window: Window, zone: ZoneInfo, grains: list[Grain]) -> None:
    """Around a stretch of one grain there is no room for one more bucket of it."""
    for segment in cut(window, zone, grains):
        if grains and segment.grain is grains[0]:
            assert bucket_start(window.end, segment.grain, zone) == segment.end
            before = bucket_start(segment.start - timedelta(microseconds=1), segment.grain, zone)
            assert before < window.start


@given(windows, zones, st.sampled_from(Period))
def test_periods_tile_the_window_and_lie_on_local_lines(window: Window, zone: ZoneInfo, period: Period) -> None:
    if period is Period.HOUR and window.end - window.start > timedelta(days=60):
        window = Window(window.start, window.start + timedelta(days=60))
    found = buckets(window, period, zone)
    assert tile(window, [tuple(bucket) for bucket in found])
    for bucket in found[1:]:
        local = bucket.start.astimezone(zone)
        if period is not Period.HOUR:
            assert bucket_start(bucket.start, Grain[period.name], zone) == bucket.start
        elif zone.key != "Australia/Lord_Howe":
            assert (local.minute, local.second, local.microsecond) == (0, 0, 0)
        assert bucket.start.timestamp() % 900 == 0


@given(windows, zones, st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH]))
def test_each_period_in_the_rollups_own_zone_is_one_segment(window: Window, zone: ZoneInfo, period: Period) -> None:
    for bucket in buckets(window, period, zone)[1:-1]:
        assert [segment.grain for segment in cut(bucket, zone, ladder(Grain, period))] == [Grain[period.name]]


def test_a_day_of_25_hours_and_one_of_23_in_berlin() -> None:
    zone = ZoneInfo("Europe/Berlin")
    year = checked_window(datetime(2025, 1, 1, tzinfo=zone), datetime(2026, 1, 1, tzinfo=zone))
    hours = [(day.end - day.start) // timedelta(hours=1) for day in buckets(year, Period.DAY, zone)]
    assert (len(hours), hours.count(23), hours.count(25)) == (365, 1, 1)


def test_apia_had_no_thirtieth_of_december() -> None:
    zone = ZoneInfo("Pacific/Apia")
    month = checked_window(datetime(2011, 12, 1, tzinfo=zone), datetime(2012, 1, 1, tzinfo=zone))
    days = [day.start.astimezone(zone).day for day in buckets(month, Period.DAY, zone)]
    assert days == [*range(1, 30), 31]


def test_hours_in_india_start_on_the_half_hour_of_utc() -> None:
    start = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
    hours = buckets(Window(start, start + timedelta(hours=2)), Period.HOUR, ZoneInfo("Asia/Kolkata"))
    assert [hour.start.minute for hour in hours] == [10, 30, 30]


def test_weeks_serve_weeks_and_months_serve_everything_else() -> None:
    assert ladder(Grain) == [Grain.MONTH, Grain.DAY, Grain.HOUR, Grain.QUARTER_HOUR]
    assert ladder(Grain, Period.WEEK) == [Grain.WEEK, Grain.DAY, Grain.HOUR, Grain.QUARTER_HOUR]
    assert ladder(USER_GRAINS) == [Grain.MONTH, Grain.DAY, Grain.QUARTER_HOUR]


@given(instants, zones, st.sampled_from(Period))
def test_a_default_window_holds_now_and_whole_periods(now: datetime, zone: ZoneInfo, period: Period) -> None:
    window = default_window(period, zone, now=now)
    assert window.start < now < window.end or window.start == now
    whole = buckets(window, period, zone)
    assert len(whole) == {Period.HOUR: 48, Period.DAY: 30, Period.WEEK: 12, Period.MONTH: 12}[period]
    before = Window(window.start - timedelta(microseconds=1), window.end + timedelta(microseconds=1))
    assert len(buckets(before, period, zone)) == len(whole) + 2


def test_a_default_start_precedes_a_given_end() -> None:
    end = datetime(2026, 3, 1, tzinfo=UTC)
    window = default_window(Period.DAY, ZoneInfo("UTC"), now=datetime(2026, 9, 1, tzinfo=UTC), end=end)
    assert window == Window(datetime(2026, 1, 30, tzinfo=UTC), end)


@pytest.mark.parametrize(
    ("start", "end", "field", "code"),
    [
        (datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), "end_date", "reversed_window"),
        (datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), "end_date", "reversed_window"),
        (datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), "start_date", "window_too_long"),
        (datetime(1901, 1, 1, tzinfo=UTC), datetime(1902, 1, 1, tzinfo=UTC), "start_date", "out_of_range"),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC), "end_date", "out_of_range"),
    ],
)
def test_absurd_windows_are_refused(start: datetime, end: datetime, field: str, code: str) -> None:
    with pytest.raises(InvalidWindow) as refused:
        checked_window(start, end)
    assert [(item["field"], item["code"]) for item in refused.value.errors] == [(field, code)]


def test_too_many_periods_are_refused() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    most = Window(start, start + timedelta(hours=MAX_BUCKETS))
    assert len(buckets(most, Period.HOUR, ZoneInfo("UTC"))) == MAX_BUCKETS
    with pytest.raises(InvalidWindow, match="longer period"):
        buckets(Window(start, most.end + timedelta(hours=1)), Period.HOUR, ZoneInfo("UTC"))

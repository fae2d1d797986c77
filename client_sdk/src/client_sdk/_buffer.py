"""Where events wait until the server has answered for them, and the counts of what became of them.

It knows neither HTTP nor an event loop. An event is in it from `add` to `settle`, on its way or not, so that a sender
that dies in the middle of a request leaves nothing behind: the next one calls `reclaim`.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple


class QueuedEvent(NamedTuple):
    number: int  # counts up from 0 in the order of the calls
    queued_at: float
    body: bytes


@dataclass(eq=False, slots=True)
class Batch:
    """Consecutive events on their way. `pieces` holds what is still unanswered; it begins as one and may be split."""

    pieces: deque[list[QueuedEvent]]
    is_asking: bool = False  # a request is under way
    is_hurried: bool = False  # a flush wants the next request without delay
    failure_count: int = 0
    last_error: Exception | None = None

    @property
    def first_number(self) -> int:
        return self.pieces[0][0].number

    def split(self) -> None:
        piece = self.pieces.popleft()
        middle = len(piece) // 2
        self.pieces.extendleft((piece[middle:], piece[:middle]))


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the tracker was made. `queued == sent + rejected + buffered`, always."""

    queued: int  # events taken into the buffer
    sent: int  # events the server has accepted
    rejected: int  # events the server has refused for good; each went to on_rejected
    dropped: int  # events not taken because the buffer was full
    retried: int  # requests sent again after a failure
    buffered: int  # events not answered for yet
    duplicate: int  # of those sent, what the server said it already had, if it says


@dataclass(eq=False, slots=True)
class EventBuffer:
    max_events: int
    queued_count: int = 0
    sent_count: int = 0
    rejected_count: int = 0
    dropped_count: int = 0
    retried_count: int = 0
    duplicate_count: int = 0
    waiting: deque[QueuedEvent] = field(default_factory=deque)
    in_flight: list[Batch] = field(default_factory=list)

    @property
    def buffered_count(self) -> int:
        return self.queued_count - self.sent_count - self.rejected_count

    @property
    def is_full(self) -> bool:
        return self.buffered_count >= self.max_events

    @property
    def stats(self) -> Stats:
        return Stats(
            queued=self.queued_count,
            sent=self.sent_count,
            rejected=self.rejected_count,
            dropped=self.dropped_count,
            retried=self.retried_count,
            buffered=self.buffered_count,
            duplicate=self.duplicate_count,
        )

    @property
    def answered_through(self) -> int:
        """Every event with a smaller number has been answered for."""
        numbers = [batch.first_number for batch in self.in_flight if batch.pieces]
        if self.waiting:
            numbers.append(self.waiting[0].number)
        return min(numbers, default=self.queued_count)

    def add(self, body: bytes, now: float) -> None:
        self.waiting.append(QueuedEvent(self.queued_count, now, body))
        self.queued_count += 1

    def take(self, max_events: int) -> Batch:
        count = min(max_events, len(self.waiting))
        batch = Batch(deque([[self.waiting.popleft() for _ in range(count)]]))
        self.in_flight.append(batch)
        return batch

    def settle(self, batch: Batch, *, rejected_count: int, duplicate_count: int) -> None:
        """The batch's first piece has its answer."""
        piece = batch.pieces.popleft()
        self.sent_count += len(piece) - rejected_count
        self.rejected_count += rejected_count
        self.duplicate_count += duplicate_count
        if not batch.pieces:
            self.in_flight.remove(batch)

    def reclaim(self) -> None:
        """Take back what an earlier sender had in its hands. Sending it twice is harmless: its ids do not change."""
        self.waiting = deque(self.unanswered())
        self.in_flight.clear()

    def unanswered(self) -> list[QueuedEvent]:
        on_their_way = (event for batch in self.in_flight for piece in batch.pieces for event in piece)
        return sorted([*on_their_way, *self.waiting])

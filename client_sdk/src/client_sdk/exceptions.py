"""Everything the SDK raises.

UsageTrackerError
├── ConfigurationError           a constructor argument is wrong
├── ValidationError              an event is wrong; raised where it was tracked
├── WrongEventLoopError          one tracker was used from two running event loops
├── TrackerClosedError           used after close()
├── BufferFullError              only with on_full="raise"
├── FlushError                   flush() or close() could not deliver everything
├── TransportError               no answer from the server
│   └── TimeoutError             ... in time
└── APIError                     the server answered, and it was not yes
    ├── AuthenticationError      401, 403
    ├── InvalidRequestError      400, 422 to a read (also a ValidationError)
    ├── RateLimitError           429
    └── ServiceUnavailableError  5xx
"""

import builtins


class UsageTrackerError(Exception):
    """The usage tracker failed."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or (type(self).__doc__ or "").partition("\n")[0])


class ConfigurationError(UsageTrackerError, ValueError):
    """The tracker was set up wrongly."""


class ValidationError(UsageTrackerError, ValueError):
    """The event is not valid."""


class WrongEventLoopError(UsageTrackerError):
    """This tracker is running on another event loop; use one tracker per loop."""


class TrackerClosedError(UsageTrackerError):
    """The tracker is closed."""


class BufferFullError(UsageTrackerError):
    """The buffer is full; the event was not queued."""


class FlushError(UsageTrackerError):
    """Not every event could be delivered.

    `unsent_count` says how many; `__cause__` is the last error met, if any. The events are still buffered, and
    `UsageTracker.unsent_events()` returns them even after `close()`.
    """

    def __init__(self, detail: str | None = None, *, unsent_count: int = 0) -> None:
        super().__init__(detail)
        self.unsent_count = unsent_count


class TransportError(UsageTrackerError):
    """The server gave no answer."""


class TimeoutError(TransportError, builtins.TimeoutError):  # callers may catch either
    """The server gave no answer in time."""


class APIError(UsageTrackerError):
    """The server refused the request.

    `code`, `detail` and `request_id` are the server's own words, where it gave any.
    """

    def __init__(
        self,
        detail: str | None = None,
        *,
        status_code: int,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = str(self)
        self.status_code = status_code
        self.code = code
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds


class AuthenticationError(APIError):
    """The API key is missing, unknown, or not allowed to do this."""


class InvalidRequestError(APIError, ValidationError):
    """The server found the request malformed."""


class RateLimitError(APIError):
    """Too many requests; `retry_after_seconds` says when to come back."""


class ServiceUnavailableError(APIError):
    """The server cannot serve this now."""

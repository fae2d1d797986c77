"""Python client of the usage tracking platform."""

from client_sdk._buffer import Stats
from client_sdk._events import EventFields, Quantity
from client_sdk._tracker import UsageTracker
from client_sdk._version import __version__
from client_sdk.exceptions import (
    APIError,
    AuthenticationError,
    BufferFullError,
    ConfigurationError,
    FlushError,
    InvalidRequestError,
    RateLimitError,
    ServiceUnavailableError,
    TimeoutError,
    TrackerClosedError,
    TransportError,
    UsageTrackerError,
    ValidationError,
    WrongEventLoopError,
)

__all__ = [
    "APIError",
    "AuthenticationError",
    "BufferFullError",
    "ConfigurationError",
    "EventFields",
    "FlushError",
    "InvalidRequestError",
    "Quantity",
    "RateLimitError",
    "ServiceUnavailableError",
    "Stats",
    "TimeoutError",
    "TrackerClosedError",
    "TransportError",
    "UsageTracker",
    "UsageTrackerError",
    "ValidationError",
    "WrongEventLoopError",
    "__version__",
]

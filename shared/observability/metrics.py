"""Every metric of the platform, declared once, each with what to do when it rises.

Labels come from short closed lists; never a tenant.
"""

from prometheus_client import Counter, Gauge, Histogram

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_COUNTS = (1, 10, 50, 100, 500, 1000, 2500, 5000, 10_000, 25_000)

HTTP_REQUESTS = Counter(
    "usage_http_requests_total",
    "Requests answered, by route and status class. 5xx rising: read this service's log for `request_failed`.",
    ["method", "route", "status"],
)
HTTP_SECONDS = Histogram(
    "usage_http_request_duration_seconds",
    "Time to answer a request. p99 rising on /events: look at Redis fsync latency first.",
    ["route"],
    buckets=_FAST,
)

EVENTS_ACCEPTED = Counter(
    "usage_events_accepted_total",
    "Events made durable in Redis and answered 202. Zero with traffic: senders get errors.",
)
EVENTS_REJECTED = Counter(
    "usage_events_rejected_total",
    "Events refused by validation, by code. Rising: a sender changed its shape; its answers name the field.",
    ["code"],
)
INGEST_REFUSED = Counter(
    "usage_ingest_refused_total",
    "Requests answered 503, nothing made durable: `queue_full` (add processors) or `queue_unavailable` (Redis).",
    ["reason"],
)
KEY_LOOKUPS = Counter(
    "usage_key_lookups_total",
    "API key checks by outcome: cached, loaded, unknown, stale (database unreachable, last answer kept).",
    ["outcome"],
)

QUEUE_ENVELOPES = Gauge(
    "usage_queue_envelopes", "Envelopes waiting on the list. Rising: processors are too few or stopped."
)
QUEUE_CLAIMED = Gauge(
    "usage_queue_claims", "Claims in flight. More than the processors hold: some died; their leases end soon."
)
QUEUE_OLDEST_SECONDS = Gauge(
    "usage_queue_oldest_age_seconds", "Age of the oldest waiting envelope. Above the visibility bound: add processors."
)
ENVELOPES_RECLAIMED = Counter(
    "usage_envelopes_reclaimed_total",
    "Envelopes returned to the queue after a lease ended. Rising: processors die or stall.",
)

EVENTS_STORED = Counter("usage_events_stored_total", "Events committed for the first time.")
EVENTS_DUPLICATE = Counter(
    "usage_events_duplicate_total", "Events already stored; counted once. A flood: a sender retries too eagerly."
)
EVENTS_CONFLICT = Counter(
    "usage_events_conflict_total",
    "Events whose id was stored with another body. Rising: a sender reuses ids; list them in event_conflicts.",
)
EVENTS_UNPRICED = Counter(
    "usage_events_unpriced_total", "Events stored without a price. Rising: a rate or model is missing."
)
DEAD_LETTERS = Counter(
    "usage_dead_letters_total",
    "Envelopes or events set aside, by reason. Any: inspect dead_letter_events, fix, replay.",
    ["reason"],
)
BATCH_EVENTS = Histogram("usage_batch_events", "Events per committed batch.", buckets=_COUNTS)
BATCH_SECONDS = Histogram(
    "usage_batch_duration_seconds",
    "Time per batch by stage. `store` rising: look at the database.",
    ["stage"],
    buckets=_FAST,
)
BATCH_FAILURES = Counter(
    "usage_batch_failures_total",
    "Batches rolled back and tried again, by reason. Rising: the database refuses or is away.",
    ["reason"],
)

FOLD_ROWS = Counter("usage_fold_rows_total", "Delta rows folded into rollups.")
FOLD_SECONDS = Histogram("usage_fold_duration_seconds", "Time of one fold.", buckets=_FAST)
FOLD_LAG_SECONDS = Gauge(
    "usage_rollup_lag_seconds",
    "Age of the oldest delta not yet folded. Rising: no aggregator holds the lock or it is too slow.",
)
JOB_RUNS = Counter(
    "usage_scheduled_job_runs_total",
    "Scheduled jobs by name and outcome. `failed` rising: read the log.",
    ["job", "outcome"],
)

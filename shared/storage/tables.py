"""The tables as SQLAlchemy sees them, for queries; `migrations/` creates them. A test holds the two together."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

_instant = DateTime(timezone=True)
_texts = ARRAY(Text)

tenants = Table(
    "tenants",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("created_at", _instant, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("tenant", Integer),
    Column("key_hash", LargeBinary, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("last_four", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", _texts, nullable=False),
    Column("customer_id", Text),
    Column("rate_limit", Integer),
    Column("allowed_models", _texts),
    Column("is_enabled", Boolean, nullable=False),
    Column("expires_at", _instant),
    Column("last_used_at", _instant),
    Column("created_at", _instant, nullable=False),
)

service_types = Table(
    "service_types",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("tenant", Integer, nullable=False),
    Column("service_type", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("service_name", Text, nullable=False),
    Column("description", Text),
    Column("providers", _texts, nullable=False),
    Column("required_fields", _texts, nullable=False),
    Column("optional_fields", _texts, nullable=False),
    Column("validation_schema", JSONB),
    Column("billing_config", JSONB),
    Column("is_enabled", Boolean, nullable=False),
    Column("created_at", _instant, nullable=False),
)

rates = Table(
    "rates",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("tenant", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("service_type", Text, nullable=False),
    Column("provider", Text),
    Column("model", Text),
    Column("customer_id", Text),
    Column("method", Text, nullable=False),
    Column("components", JSONB, nullable=False),
    Column("minimum", Numeric),
    Column("currency", Text, nullable=False),
    Column("bills_failed", Boolean, nullable=False),
    Column("effective_from", _instant, nullable=False),
    Column("effective_until", _instant),
    Column("created_at", _instant, nullable=False),
)

change_counters = Table(
    "change_counters", metadata, Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False)
)

event_keys = Table(
    "event_keys",
    metadata,
    Column("tenant", Integer, primary_key=True),
    Column("event_key", Uuid, primary_key=True),
    Column("fingerprint", BigInteger, nullable=False),
    Column("receipt", BigInteger, nullable=False),
    Column("occurred_at", _instant, nullable=False),
    Column("received_at", _instant, nullable=False),
    Column("is_timestamped", Boolean, nullable=False),
)

dimension_sets = Table(
    "dimension_sets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("tenant", Integer, nullable=False),
    Column("service_type", Text, nullable=False),
    Column("service_provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("currency", Text, nullable=False),
)

metrics = Table("metrics", metadata, Column("id", Integer, primary_key=True), Column("name", Text, nullable=False))

applied_prices = Table(
    "applied_prices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("basis", JSONB, nullable=False),
)

usage_events = Table(
    "usage_events",
    metadata,
    Column("tenant", Integer, nullable=False),
    Column("dimension_id", Integer, nullable=False),
    Column("price_id", Integer),
    Column("occurred_at", _instant, nullable=False),
    Column("received_at", _instant, nullable=False),
    Column("event_key", Uuid, nullable=False),
    Column("event_id", Text),
    Column("source", Text),
    Column("user_id", Text, nullable=False),
    Column("cost", Numeric),
    Column("charge", Numeric),
    Column("metrics", JSONB, nullable=False),
    Column("metadata", JSONB),
    Column("tags", _texts),
    Column("session_id", Text),
    Column("request_id", Text),
    Column("job_id", Text),
    Column("run_id", Text),
    Column("span_id", Text),
    Column("parent_span_id", Text),
    Column("section", Text),
    Column("error_message", Text),
    Column("service_version", Integer, nullable=False),
)

ingest_outcomes = Table(
    "ingest_outcomes",
    metadata,
    Column("tenant", Integer, primary_key=True),
    Column("receipt", BigInteger, primary_key=True),
    Column("duplicate_count", Integer, nullable=False),
    Column("conflict_count", Integer, nullable=False),
    Column("recorded_at", _instant, nullable=False),
)

event_conflicts = Table(
    "event_conflicts",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("tenant", Integer, nullable=False),
    Column("event_key", Uuid, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("fingerprint", BigInteger, nullable=False),
    Column("receipt", BigInteger, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("received_at", _instant, nullable=False),
)

dead_letter_events = Table(
    "dead_letter_events",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("tenant", Integer),
    Column("digest", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("event_count", Integer, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("created_at", _instant, nullable=False),
)


def _measures() -> list[Column[object]]:
    return [
        Column("value_count", BigInteger, nullable=False),
        Column("value_sum", Numeric, nullable=False),
        Column("value_min", Numeric),
        Column("value_max", Numeric),
    ]


def _user_measures() -> list[Column[object]]:
    counts = [Column(name, BigInteger, nullable=False) for name in ("event_count", "error_count", "unpriced_count")]
    return [*counts, *(Column(name, Numeric, nullable=False) for name in ("quantity", "cost", "charge"))]


rollup_deltas = Table(
    "rollup_deltas",
    metadata,
    Column("tenant", Integer, nullable=False),
    Column("dimension_id", Integer, nullable=False),
    Column("bucket_at", _instant, nullable=False),
    Column("metric_id", Integer, nullable=False),
    *_measures(),
    Column("created_at", _instant, nullable=False),
)

rollups = Table(
    "rollups",
    metadata,
    Column("tenant", Integer, primary_key=True),
    Column("grain", SmallInteger, primary_key=True),
    Column("bucket_at", _instant, primary_key=True),
    Column("dimension_id", Integer, primary_key=True),
    Column("metric_id", Integer, primary_key=True),
    *_measures(),
)

user_rollup_deltas = Table(
    "user_rollup_deltas",
    metadata,
    Column("tenant", Integer, nullable=False),
    Column("dimension_id", Integer, nullable=False),
    Column("bucket_at", _instant, nullable=False),
    Column("user_id", Text, nullable=False),
    *_user_measures(),
    Column("created_at", _instant, nullable=False),
)

user_rollups = Table(
    "user_rollups",
    metadata,
    Column("tenant", Integer, primary_key=True),
    Column("grain", SmallInteger, primary_key=True),
    Column("bucket_at", _instant, primary_key=True),
    Column("dimension_id", Integer, primary_key=True),
    Column("user_id", Text, primary_key=True),
    *_user_measures(),
)

"""The pipeline: control tables, event keys, events, deltas, rollups, dead letters."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CONTROL = """
CREATE TABLE tenants (
    number     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  text NOT NULL UNIQUE CHECK (tenant_id ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'),
    name       text NOT NULL,
    timezone   text NOT NULL DEFAULT 'UTC',
    currency   text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
    is_active  boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant         integer REFERENCES tenants,          -- null: an operator key bound to no tenant
    key_hash       bytea NOT NULL UNIQUE,               -- HMAC-SHA256; the key itself is kept nowhere
    prefix         text NOT NULL,
    last_four      text NOT NULL,
    name           text NOT NULL,
    scopes         text[] NOT NULL,
    customer_id    text,
    rate_limit     integer CHECK (rate_limit > 0),
    allowed_models text[],
    is_enabled     boolean NOT NULL DEFAULT true,
    expires_at     timestamptz,
    last_used_at   timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE service_types (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant            integer NOT NULL REFERENCES tenants,
    service_type      text NOT NULL,
    version           integer NOT NULL CHECK (version > 0),
    service_name      text NOT NULL,
    description       text,
    providers         text[] NOT NULL DEFAULT '{}',
    required_fields   text[] NOT NULL DEFAULT '{}',
    optional_fields   text[] NOT NULL DEFAULT '{}',
    validation_schema jsonb,
    billing_config    jsonb,
    is_enabled        boolean NOT NULL DEFAULT true,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, service_type, version)
);

CREATE TABLE rates (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant          integer NOT NULL REFERENCES tenants,
    version         integer NOT NULL DEFAULT 1,
    service_type    text NOT NULL,
    provider        text,
    model           text,
    customer_id     text,
    method          text NOT NULL CHECK (method IN ('multiply', 'sum', 'flat')),
    components      jsonb NOT NULL,                     -- [{metric, amount, per}], amounts as text
    minimum         numeric,
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    bills_failed    boolean NOT NULL DEFAULT false,
    effective_from  timestamptz NOT NULL,
    effective_until timestamptz CHECK (effective_until > effective_from),
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX rates_tenant ON rates (tenant);

-- raised by every change of service types and rates, so that readers notice with one cheap query
CREATE TABLE change_counters (
    name  text PRIMARY KEY,
    value bigint NOT NULL DEFAULT 0
);
INSERT INTO change_counters (name) VALUES ('registry');
"""

EVENTS = """
-- identity of every event in the deduplication window, whatever its time: what makes it count once
CREATE TABLE event_keys (
    tenant         integer NOT NULL,
    event_key      uuid NOT NULL,                       -- the event_id if a UUID without source, else a digest of both
    fingerprint    bigint NOT NULL,                     -- of the body without its time: duplicate or conflict?
    receipt        bigint NOT NULL,                     -- the request that stored it: redelivery or duplicate?
    occurred_at    timestamptz NOT NULL,                -- where to find the event
    received_at    timestamptz NOT NULL,
    is_timestamped boolean NOT NULL,
    PRIMARY KEY (tenant, event_key)
);
CREATE INDEX event_keys_received ON event_keys USING brin (received_at);

-- distinct sets of the words that events repeat
CREATE TABLE dimension_sets (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant           integer NOT NULL REFERENCES tenants,
    service_type     text NOT NULL,
    service_provider text NOT NULL,
    model            text NOT NULL,
    event_type       text NOT NULL,
    customer_id      text NOT NULL,
    job_type         text NOT NULL,
    status           text NOT NULL,
    currency         text NOT NULL,                     -- of cost; '' where there is none
    UNIQUE (tenant, service_type, service_provider, model, event_type, customer_id, job_type, status, currency)
);

CREATE TABLE metrics (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);

-- what an event was priced with, once per distinct basis
CREATE TABLE applied_prices (
    id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    basis  jsonb NOT NULL
);

CREATE TABLE usage_events (
    tenant         integer NOT NULL,
    dimension_id   integer NOT NULL,
    price_id       integer,
    occurred_at    timestamptz NOT NULL,
    received_at    timestamptz NOT NULL,
    event_key      uuid NOT NULL,
    event_id       text,                                -- null: the text of event_key
    source         text,                                -- null: ''
    user_id        text NOT NULL,
    cost           numeric,                             -- null: unpriced
    charge         numeric,
    metrics        jsonb NOT NULL,
    metadata       jsonb,
    tags           text[],
    session_id     text,
    request_id     text,
    job_id         text,
    run_id         text,
    span_id        text,
    parent_span_id text,
    section        text,
    error_message  text,
    service_version integer NOT NULL
) {partitioning};
CREATE INDEX usage_events_time ON usage_events (tenant, occurred_at, event_key);
CREATE INDEX usage_events_run ON usage_events (tenant, run_id) WHERE run_id IS NOT NULL;
CREATE INDEX usage_events_job ON usage_events (tenant, job_id) WHERE job_id IS NOT NULL;

-- duplicates and conflicts of a request, once however often it is delivered:
-- accepted = stored + duplicate + conflict + dead letters stays exact
CREATE TABLE ingest_outcomes (
    tenant          integer NOT NULL,
    receipt         bigint NOT NULL,
    duplicate_count integer NOT NULL,
    conflict_count  integer NOT NULL,
    recorded_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, receipt)
);

-- the same id with another body: the first stays, the later ones are listed here
CREATE TABLE event_conflicts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      integer NOT NULL,
    event_key   uuid NOT NULL,
    event_id    text NOT NULL,
    source      text NOT NULL,
    fingerprint bigint NOT NULL,
    receipt     bigint NOT NULL,
    body        jsonb NOT NULL,
    received_at timestamptz NOT NULL,
    UNIQUE (tenant, event_key, receipt, fingerprint)
);

CREATE TABLE dead_letter_events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      integer,                                -- null: not readable enough to tell
    digest      bytea NOT NULL UNIQUE,                  -- of the envelope: a redelivery adds no second row
    reason      text NOT NULL,
    detail      text NOT NULL,
    event_count integer NOT NULL,
    envelope    bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letter_events_tenant ON dead_letter_events (tenant, created_at);
"""

ROLLUPS = """
CREATE TABLE rollup_deltas (
    tenant       integer NOT NULL,
    dimension_id integer NOT NULL,
    bucket_at    timestamptz NOT NULL,                  -- start of the 15 minutes
    metric_id    integer NOT NULL,
    value_count  bigint NOT NULL,
    value_sum    numeric NOT NULL,
    value_min    numeric,
    value_max    numeric,
    created_at   timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE rollups (
    tenant       integer NOT NULL,
    grain        smallint NOT NULL,                     -- 1 quarter hour, 2 hour, 3 day, 4 week, 5 month
    bucket_at    timestamptz NOT NULL,
    dimension_id integer NOT NULL,
    metric_id    integer NOT NULL,
    value_count  bigint NOT NULL,
    value_sum    numeric NOT NULL,
    value_min    numeric,
    value_max    numeric,
    PRIMARY KEY (tenant, grain, bucket_at, dimension_id, metric_id)
) WITH (fillfactor = 80);

CREATE TABLE user_rollup_deltas (
    tenant         integer NOT NULL,
    dimension_id   integer NOT NULL,
    bucket_at      timestamptz NOT NULL,
    user_id        text NOT NULL,
    event_count    bigint NOT NULL,
    error_count    bigint NOT NULL,
    unpriced_count bigint NOT NULL,
    quantity       numeric NOT NULL,                    -- in the quantity of the service type: tokens, pages, requests
    cost           numeric NOT NULL,
    charge         numeric NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 50000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE user_rollups (
    tenant         integer NOT NULL,
    grain          smallint NOT NULL,
    bucket_at      timestamptz NOT NULL,
    dimension_id   integer NOT NULL,
    user_id        text NOT NULL,
    event_count    bigint NOT NULL,
    error_count    bigint NOT NULL,
    unpriced_count bigint NOT NULL,
    quantity       numeric NOT NULL,
    cost           numeric NOT NULL,
    charge         numeric NOT NULL,
    PRIMARY KEY (tenant, grain, bucket_at, dimension_id, user_id)
) WITH (fillfactor = 80);
"""

# One function hides which database this is: it is the only place that differs.
ON_TIMESCALE = """
SELECT create_hypertable('usage_events', by_range('occurred_at', INTERVAL '1 day'), create_default_indexes => false);

CREATE FUNCTION ensure_event_partitions(days date[]) RETURNS void LANGUAGE sql AS 'SELECT';

CREATE FUNCTION drop_event_partitions(older_than timestamptz) RETURNS integer LANGUAGE sql AS
$$ SELECT count(*)::integer FROM drop_chunks('usage_events', older_than => older_than) $$;
"""

ON_POSTGRESQL = """
CREATE FUNCTION ensure_event_partitions(days date[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition text;
    wanted date;
BEGIN
    FOREACH wanted IN ARRAY days LOOP
        partition := 'usage_events_' || to_char(wanted, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        -- one maker at a time; attached rather than created in place, so that running inserts are not blocked
        PERFORM pg_advisory_xact_lock(7361003);
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE %I (LIKE usage_events INCLUDING DEFAULTS)', partition);
            EXECUTE format(
                'ALTER TABLE usage_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                partition,
                wanted::timestamp AT TIME ZONE 'UTC',
                (wanted + 1)::timestamp AT TIME ZONE 'UTC'
            );
        EXCEPTION WHEN duplicate_table THEN
            NULL; -- made while this one waited: the look above may not have seen it yet
        END;
    END LOOP;
END $$;

CREATE FUNCTION drop_event_partitions(older_than timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    partition regclass;
    dropped integer := 0;
BEGIN
    FOR partition IN
        SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent = 'usage_events'::regclass
          AND to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') + 1 <= (older_than AT TIME ZONE 'UTC')::date
    LOOP
        EXECUTE format('DROP TABLE %s', partition);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
"""


def upgrade() -> None:
    connection = op.get_bind()
    is_timescale = bool(
        connection.exec_driver_sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'").scalar()
    )
    if is_timescale:
        op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    for statements in (
        CONTROL,
        EVENTS.replace("{partitioning}", "" if is_timescale else "PARTITION BY RANGE (occurred_at)"),
        ROLLUPS,
    ):
        _execute_all(statements)
    for statement in (ON_TIMESCALE if is_timescale else ON_POSTGRESQL).split("\n\n"):
        op.execute(statement)


def _execute_all(statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: rows written since would be lost")

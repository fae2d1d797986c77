"""What the migrations make is what `shared.storage.tables` says, on either database; and they can be run again."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import ARRAY, Column, Table
from sqlalchemy.dialects import postgresql

from migrations.run import upgrade
from shared.storage.database import asyncpg_url
from shared.storage.tables import metadata

_DIALECT = postgresql.dialect()

_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS is_required
FROM pg_attribute a WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""

_PRIMARY_KEY = """
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = $1::regclass AND i.indisprimary
"""


def stated_type(column: Column[Any]) -> str:
    """The type as PostgreSQL spells it."""
    kind = column.type
    inner = kind.item_type if isinstance(kind, ARRAY) else kind
    text = inner.compile(dialect=_DIALECT).lower()
    return text + "[]" if isinstance(kind, ARRAY) else text


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
async def test_a_table_has_the_columns_that_queries_are_written_for(pool: asyncpg.Pool, table: Table) -> None:
    found = {row["name"]: (row["type"], row["is_required"]) for row in await pool.fetch(_COLUMNS, table.name)}
    assert found == {column.name: (stated_type(column), not column.nullable) for column in table.columns}
    key = {row["attname"] for row in await pool.fetch(_PRIMARY_KEY, table.name)}
    assert key == {column.name for column in table.primary_key}


async def test_no_table_is_unknown_to_the_queries(pool: asyncpg.Pool) -> None:
    rows = await pool.fetch(
        "SELECT relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition"
    )
    assert {row["relname"] for row in rows} == {*metadata.tables, "alembic_version"}


async def test_events_are_kept_by_the_day(pool: asyncpg.Pool) -> None:
    if await pool.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"):
        chunk = await pool.fetchval(
            "SELECT time_interval = interval '1 day' FROM timescaledb_information.dimensions"
            " WHERE hypertable_name = 'usage_events'"
        )
        assert chunk
    else:
        assert await pool.fetchval("SELECT relkind = 'p' FROM pg_class WHERE oid = 'usage_events'::regclass")


def test_the_migrations_are_one_line_of_succession() -> None:
    scripts = ScriptDirectory.from_config(Config("alembic.ini"))
    assert len(scripts.get_heads()) == len(scripts.get_bases()) == 1


async def test_migrating_again_changes_nothing(make_database: Callable[[], str]) -> None:
    url = await asyncio.to_thread(make_database)
    connection = await asyncpg.connect(asyncpg_url(url))
    before = await connection.fetch("SELECT relname, relkind FROM pg_class ORDER BY 1, 2")
    await asyncio.to_thread(upgrade, url)
    assert await connection.fetch("SELECT relname, relkind FROM pg_class ORDER BY 1, 2") == before
    await connection.close()


async def test_two_that_migrate_an_empty_database_at_once_both_succeed(database_url: str) -> None:
    server = asyncpg_url(database_url)
    name = f"{database_url.rsplit('/', 1)[1]}_twice"
    url = server.rsplit("/", 1)[0] + f"/{name}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    try:
        # alembic's context is one per process: two places are two processes
        await asyncio.gather(*(_migrate_elsewhere(url) for _ in range(2)))
        its_own = await asyncpg.connect(url)
        assert await its_own.fetchval("SELECT count(*) FROM alembic_version") == 1
        await its_own.close()
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


async def _migrate_elsewhere(url: str) -> None:
    program = "import sys; from migrations.run import upgrade; upgrade(sys.argv[1])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, url, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-1000:]

"""What a check reports, and what all checks share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from tieout.sources import Registry

Severity = Literal["ok", "warn", "fail"]

# Subject of a finding of a check that could not look at its subjects.
ITSELF = "the check itself"
PLATFORM = "data-platform"
BOOK = "global"
# Yesterday's files and close are due this long after local midnight: ingest starts at 02:00, and a close takes minutes.
DUE_HOURS = 4


class Finding(NamedTuple):
    """What one check saw of one subject; ``observed`` holds the numbers behind ``message``, JSON-able."""

    check_name: str
    subject: str
    severity: Severity
    message: str
    observed: dict[str, Any]
    owner: str


Check = Callable[[Connection, Registry, datetime], list[Finding]]


def blind(check_name: str, message: str) -> Finding:
    """The finding of a check that could not look: always a failure."""
    return Finding(check_name, ITSELF, "fail", message, {}, PLATFORM)


def query(connection: Connection, statement: str | sql.Composable, values: Any = None) -> list[tuple[Any, ...]]:
    """All rows of one query."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()

"""What every command of ``tieout`` does alike: exit codes, errors as messages, the warehouse's connection, tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

# A pipe or a file has no width of its own: tables need room for amounts.
console = Console(width=None if sys.stdout.isatty() else 160)
complaints = Console(stderr=True, width=None if sys.stderr.isatty() else 160)


@contextmanager
def reported() -> Iterator[None]:
    """Turn the errors of this package into a message and an exit code; anything else is a bug and shows itself."""
    from psycopg2 import OperationalError

    from tieout.breaks import BreakError
    from tieout.close import CloseRefused
    from tieout.dbt_runner import DbtFailed
    from tieout.extraction.catalogue import CatalogueError
    from tieout.extraction.verify import VerifyError
    from tieout.landing.quarantine import QuarantineError
    from tieout.local.machine import LocalError, UsageError
    from tieout.local.walkthrough import Interrupted
    from tieout.overview import NothingPublishedError
    from tieout.periods import PeriodRefused
    from tieout.postgres import PostgresError
    from tieout.sandbox import SandboxError
    from tieout.sources import RegistryError

    failures = (LocalError, PostgresError, RegistryError, NothingPublishedError, DbtFailed)

    try:
        yield
    except Interrupted as interrupted:
        complain(f"stopped by {interrupted}; nothing is left running, and the next run continues")
        raise typer.Exit(INTERRUPTED) from None
    except (
        UsageError, SandboxError, CloseRefused, PeriodRefused, VerifyError, CatalogueError, QuarantineError, BreakError
    ) as error:  # fmt: skip
        complain(str(error))
        raise typer.Exit(BAD_INPUT) from None
    except failures as error:
        complain(str(error))
        raise typer.Exit(FAILED) from None
    except OperationalError as error:
        complain(f"the database did not answer: {error}")
        raise typer.Exit(FAILED) from None
    except OSError as error:
        if error.errno not in (28, 122):
            raise
        complain(f"the disk is full ({error}): free some space, then run again")
        raise typer.Exit(FAILED) from None


def complain(message: str) -> None:
    """Print an error as it is, to stderr."""
    complaints.print(message, style="red", markup=False, highlight=False)


@contextmanager
def warehouse(role: str = "postgres") -> Iterator[Connection]:
    """A connection to the warehouse: TIEOUT_WAREHOUSE_DSN when set, else this machine's own server.

    :raises UsageError: neither is there.
    """
    import psycopg2

    from tieout.local.machine import Machine, UsageError

    dsn = os.environ.get("TIEOUT_WAREHOUSE_DSN")
    if dsn:
        connection = psycopg2.connect(dsn)
        try:
            yield connection
        finally:
            connection.close()
        return
    machine = Machine()
    if not machine.settings.deployed:
        raise UsageError(f"{machine.state} holds no books yet: `make run` makes some, or set TIEOUT_WAREHOUSE_DSN")
    with machine.databases() as cluster, cluster.connect("warehouse", role) as connection:
        yield connection


def print_table(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Print rows under their headings: no is loud, times are to the minute, nothing is empty."""
    from rich.table import Table

    table = Table(*columns, box=None, header_style="dim", pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "" if value is None else escape(str(value))

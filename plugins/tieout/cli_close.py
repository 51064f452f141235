"""``tieout close`` and ``tieout period``: giving up, closing again, publishing with an exception, locking.

Exit codes are those of ``tieout``; ``close except`` ends with 0 once nothing is missing but building the close again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from tieout.terminal import BAD_INPUT, FAILED, complain, console, print_table, reported, warehouse

close_app = typer.Typer(no_args_is_help=True, help="Closes of the books.")
period_app = typer.Typer(no_args_is_help=True, help="Locked periods: nothing is posted or closed again in one.")

Book = Annotated[str, typer.Option(help="The book.")]
Actor = Annotated[str, typer.Option(help="Who decides; by default the login name.")]
OfBook = Annotated[str, typer.Argument(metavar="BOOK", help="The book, such as global.")]
Month = Annotated[str, typer.Argument(metavar="MONTH", help="A month, such as 2026-10.")]


@close_app.command("abort")
def close_abort(close_id: Annotated[int, typer.Argument(help="Number of the close, as ops.closes has it.")]) -> None:
    """Give up a close that is not published: its run is fenced off, its batches are free for the next one.

    Of a re-close the whole chain is given up, by the number of any of its closes.
    """
    from tieout import close

    with reported(), warehouse() as connection:
        before = close.abort(connection, close_id)
    console.print(f"close {close_id} was {before} and is given up")


@close_app.command("reopen")
def close_reopen(
    day: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], metavar="DATE", help="A published business date.")],
    reason: Annotated[str, typer.Option(help="Why it is closed again; kept for good.")],
    actor: Actor = "",
    book: Book = "global",
) -> None:
    """Close a past date again, and every date after it: all are published at once when all are proven, or none.

    The date takes the files that were loaded since the last close, and each date the snapshots of its own interval;
    what is of a later day waits. After a failure or a crash the same command goes on where it stopped.
    """
    import getpass

    import psycopg2

    from tieout import reclose
    from tieout.close import Close, CloseNotProven, StepResult
    from tieout.dbt_runner import Server

    def tell(closed: Close, result: StepResult) -> None:
        console.print(f"close {closed.close_id} of {closed.business_date}: {result.step}, {result.sql_seconds:.1f} s")

    with reported(), _addresses() as (dsn, state):
        loader = psycopg2.connect(dsn("loader"))
        publisher = psycopg2.connect(dsn("publisher"))
        try:
            chain, lines = reclose.close_again(
                loader, publisher, Server.from_dsn(dsn("builder")), state, book, day.date(), reason,
                actor or getpass.getuser(), tell,
            )  # fmt: skip
        except (CloseNotProven, psycopg2.errors.RaiseException, psycopg2.IntegrityError) as error:
            complain(f"{str(error).strip()}\nnothing is published; readers see the closes they saw")
            raise typer.Exit(FAILED) from None
        finally:
            loader.close()
            publisher.close()
    first, last = chain.closes[0], chain.closes[-1]
    console.print(
        f"re-close {chain.reclosing_id} is published: {len(chain.closes)} closes, {first.business_date} to "
        f"{last.business_date}; {lines} journal lines booked or taken back"
    )


@close_app.command("except")
def close_except(
    named: Annotated[str, typer.Argument(metavar="CLOSE", help="Number of a close, or the date that is not closed.")],
    lines: Annotated[list[str] | None, typer.Argument(metavar="LINE", help="Lines to sign for, as listed.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it is right to publish all the same; kept for good.")] = None,
    actor: Annotated[str, typer.Option(help="Who signs; by default the login name.")] = "",
    book: Book = "global",
) -> None:
    """Show what keeps a close from being proven, and sign for it; two people together publish it with an exception.

    Without LINE it only shows. A line that two people signed for is excused as long as it is off by exactly that; when
    every line is, build the close again: it is published, and the difference is an open break until it is gone.
    """
    import getpass

    from tieout import signoff
    from tieout.money import to_text

    if bool(lines) != bool(reason):
        complain("to sign, name the lines and a --reason; to look, neither")
        raise typer.Exit(BAD_INPUT)
    with reported(), warehouse("controller") as connection:
        found = signoff.standing(connection, book, named)
        if lines:
            found = signoff.sign(connection, found, lines, reason or "", actor or getpass.getuser())
    print_table(
        ("line", "check", "subject", "currency", "items off", "off by", "signed by", "what is missing"),
        [
            (line.handle, line.check_name, line.subject, line.currency, line.difference_count,
             "" if line.currency == "XXX" else to_text(line.difference_minor, line.currency),
             ", ".join(line.signed_by), line.missing)
            for line in found.lines
        ],
    )  # fmt: skip
    what = f"close {found.close_id} of {found.business_date} is {found.state}"
    again = (
        "go on with tieout close reopen" if found.is_reclosing
        else f"run the DAG close for {found.business_date}"
    )  # fmt: skip
    if not found.lines:
        console.print(f"{what}; no line of its proof fails")
    elif found.is_excused:
        published = found.state in ("published", "superseded")
        console.print(f"{what}; every line that fails is excused" + ("" if published else f": {again} to publish it"))
    else:
        console.print(f"{what}; {sum(not line.is_excused for line in found.lines)} of {len(found.lines)} not excused")
        raise typer.Exit(FAILED)


@period_app.command("list")
def period_list() -> None:
    """Show every period that was ever locked."""
    from tieout import periods

    with reported(), warehouse("controller") as connection:
        found = periods.list_periods(connection)
    print_table(
        ("book", "from", "to", "state", "locked by", "at", "reason", "unlocking signed by"),
        [
            (p.book, p.first_date, p.last_date, p.state, p.actor, p.changed_at, p.reason, ", ".join(p.unlock_signed_by))
            for p in found
        ],
    )


@period_app.command("lock")
def period_lock(
    book: OfBook, month: Month, reason: Annotated[str, typer.Option(help="Why; kept for good.")], actor: Actor = ""
) -> None:
    """Lock a month whose every business day is published: nothing is posted, published or closed again in it."""
    import getpass

    from tieout import periods

    with reported(), warehouse("controller") as connection:
        first, last = periods.month(month)
        periods.lock(connection, book, first, last, reason, actor or getpass.getuser())
    console.print(f"book {book} is locked from {first} to {last}")


@period_app.command("unlock")
def period_unlock(
    book: OfBook, month: Month, reason: Annotated[str, typer.Option(help="Why; kept for good.")], actor: Actor = ""
) -> None:
    """Sign for unlocking a month; it takes two people. Exit code 1 while the second is missing."""
    import getpass

    from tieout import periods

    with reported(), warehouse("controller") as connection:
        first, last = periods.month(month)
        found = periods.unlock(connection, book, first, last, reason, actor or getpass.getuser())
    if found.state == "locked":
        console.print(f"signed by {', '.join(found.unlock_signed_by)}; {month} stays locked until a second one signs")
        raise typer.Exit(FAILED)
    console.print(f"book {book} is open from {first} to {last}, signed by {', '.join(found.unlock_signed_by)}")


@contextmanager
def _addresses() -> Iterator[tuple[Callable[[str], str], Path]]:
    """How each role connects to the warehouse, and the folder for what dbt keeps."""
    from tieout.local.machine import Machine, UsageError, state_folder

    given = os.environ.get("TIEOUT_WAREHOUSE_DSN")
    if given:
        yield (lambda role: given), state_folder()
        return
    machine = Machine()
    if not machine.settings.deployed:
        raise UsageError(f"{machine.state} holds no books yet: `make run` makes some, or set TIEOUT_WAREHOUSE_DSN")
    with machine.databases() as cluster:
        yield (lambda role: cluster.dsn("warehouse", role)), machine.state

"""The ``tieout`` command. Exit codes: 0 done, 1 something failed or the books are not proven, 2 bad input.

Every command imports what it needs when it runs, so that ``tieout read`` starts in a moment. What they share stands in
:mod:`tieout.terminal`; the commands of ``tieout breaks`` in :mod:`tieout.cli_breaks`, those of ``tieout close`` and
``tieout period`` in :mod:`tieout.cli_close`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from tieout.cli_breaks import breaks_app
from tieout.cli_close import close_app, period_app
from tieout.terminal import BAD_INPUT, FAILED, complain, console, print_table, reported, warehouse

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.partition("\n\n")[0]
)
sandbox_app = typer.Typer(no_args_is_help=True, help="The sandbox payment system.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Files that were refused or are held.")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(close_app, name="close")
app.add_typer(period_app, name="period")
app.add_typer(quarantine_app, name="quarantine")
source_app = typer.Typer(no_args_is_help=True, help="Systems to extract from.")
app.add_typer(source_app, name="source")
app.add_typer(breaks_app, name="breaks")


def _show_books() -> None:
    from tieout import overview

    with warehouse() as connection:
        books = overview.read(connection)
    overview.render(books, console)
    if not books.proven:
        raise typer.Exit(FAILED)


@app.command()
def run(
    payments_per_day: Annotated[int, typer.Option(min=1, help="Size of the sandbox.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sandbox.")] = 1,
) -> None:
    """Take the sandbox's days through Airflow to published books, and show them."""
    from tieout.local import walkthrough
    from tieout.local.machine import Machine

    with reported():
        machine = Machine()
        walkthrough.run(machine, payments_per_day, seed, console)
        _show_books()
    console.print(
        f"\nWhere to look next\n"
        f"  make up            Airflow's UI and the docs site\n"
        f"  tieout incidents   every alert        tieout proof DATE   the proof line by line\n"
        f"  {machine.landing}   drop a processor's report or a bank statement here",
        markup=False, highlight=False,
    )  # fmt: skip


@app.command()
def up() -> None:
    """Serve Airflow's UI and the docs site until Ctrl-C."""
    from tieout.local import walkthrough
    from tieout.local.machine import Machine

    with reported():
        try:
            walkthrough.up(Machine(), console)
        except walkthrough.Interrupted:
            # Being stopped is how it is meant to end.
            console.print("stopped; nothing is left running")


@app.command()
def status() -> None:
    """Show the books as they stand."""
    with reported():
        _show_books()


@app.command()
def clean(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Stop everything and remove the data of this machine's server."""
    from tieout.local.airflow_local import Airflow
    from tieout.local.machine import Machine, state_folder

    if not yes:
        typer.confirm(f"Remove everything in {state_folder()} but its virtual environment?", abort=True)
    with reported():
        machine = Machine()
        with machine.exclusive():
            Airflow(machine).stop_leftovers()
            machine.remove()


@app.command()
def read(
    files: Annotated[list[Path] | None, typer.Argument(help="Files as a processor or a bank sent them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line per file.")] = False,
    formats: Annotated[bool, typer.Option("--formats", help="List the formats that are known instead.")] = False,
) -> None:
    """Read files as the ingest would, load nothing, and say what is in them."""
    from tieout import reading

    if formats:
        print_table(("format", "time zone", "amounts", "what proves it"), list(reading.formats()))
    elif files:
        raise typer.Exit(reading.read_files(files, as_json, console))
    else:
        complain("name a file to read, or ask for --formats")
        raise typer.Exit(BAD_INPUT)


@sandbox_app.command("advance")
def sandbox_advance(day: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="Business day.")]) -> None:
    """Let one business day happen in the sandbox and outside, and set the checks' clock to its end."""
    from tieout import sandbox
    from tieout.local import walkthrough
    from tieout.local.machine import Machine

    with reported():
        machine = Machine()
        with machine.exclusive(), machine.databases() as cluster:
            sandbox.advance(machine.payments_dsn(cluster), machine.landing, machine.state, day.date())
            walkthrough.set_clock(cluster, day.date())


@app.command()
def migrate() -> None:
    """Apply the warehouse's migrations and make its raw tables."""
    import psycopg2

    from tieout.local.machine import Machine
    from tieout.postgres import migrate as apply
    from tieout.sources import ensure_raw_tables, load_registry

    with reported():
        dsn = os.environ.get("TIEOUT_WAREHOUSE_DSN")
        if dsn:
            connection = psycopg2.connect(dsn)
            try:
                applied = apply(connection)
                ensure_raw_tables(connection, load_registry())
                connection.commit()
            finally:
                connection.close()
            console.print(", ".join(applied) or "nothing to apply")
            return
        machine = Machine()
        with machine.exclusive(), machine.databases() as cluster:
            machine.prepare(cluster)
        console.print("up to date")


@app.command()
def deploy() -> None:
    """Deploy the dbt project: seeds, empty tables, reader views, manifest."""
    from tieout.dbt_runner import DbtRunner, Server

    with reported(), _builder() as (dsn, state):
        DbtRunner(Server.from_dsn(dsn), state).deploy()
    console.print("deployed")


@app.command()
def docs() -> None:
    """Write the documentation site as one page, and say where it is."""
    from tieout.dbt_runner import DbtRunner, Server

    with reported(), _builder() as (dsn, state):
        page = DbtRunner(Server.from_dsn(dsn), state).docs()
    console.print(str(page), soft_wrap=True)


@contextmanager
def _builder() -> Iterator[tuple[str, Path]]:
    """Where dbt builds, as the builder, and the folder for what it keeps."""
    from tieout.local.machine import Machine, state_folder

    dsn = os.environ.get("TIEOUT_WAREHOUSE_DSN")
    if dsn:
        yield dsn, state_folder()
        return
    machine = Machine()
    with machine.exclusive(), machine.databases() as cluster:
        machine.prepare(cluster)
        yield cluster.dsn("warehouse", "builder"), machine.state


@source_app.command("add")
def source_add(
    connection: Annotated[str, typer.Argument(help="Name of the connection, as Airflow knows it.")],
    schema: Annotated[str, typer.Argument(help="Schema of that database.")],
    dsn: Annotated[str | None, typer.Option(help="libpq URI or DSN; else AIRFLOW_CONN_<CONNECTION> says it.")] = None,
    name: Annotated[str | None, typer.Option(help="The source's name; else the connection's.")] = None,
    table: Annotated[list[str] | None, typer.Option(help="Only this table; may be given again.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="TABLE=COLUMN,... where the catalogue knows no key.")] = None,
    owner: Annotated[str, typer.Option(help="Who is told when something is wrong with it.")] = "payments-data",
    out: Annotated[Path | None, typer.Option(help="File to write; else the source's own in the dbt project.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write the file anew if it is there.")] = False,
) -> None:
    """Read a Postgres schema's catalogue and write the YAML that declares its tables, for review."""
    from tieout.extraction.declaration import add_source, named_keys, source_address, summary

    with reported():
        address = dsn or source_address(connection, os.environ)
        added = add_source(
            connection, schema, address, name=name, tables=table or (), keys=named_keys(key or ()), owner=owner,
            out=out, replace=replace,
        )  # fmt: skip
    print_table(("table", "rows", "key", "cursor", "mode", "personal", "remarks"), summary(added))
    console.print(f"\nwritten to {added.path}", soft_wrap=True, markup=False, highlight=False)
    console.print(
        f"Next\n"
        f"  review it             every comment that starts with 'guess' says what to check\n"
        f"  tieout migrate        makes the raw tables\n"
        f"  a staging model       for each table that is to be matched or booked, as stg_payments__captures is\n"
        f'  dags/ingest.py        takes it with ExtractSnapshotOperator(source_name="{added.source}")',
        markup=False, highlight=False,
    )  # fmt: skip


@quarantine_app.command("list")
def quarantine_list() -> None:
    """Show every file that was refused or is held, and why."""
    from tieout.landing import quarantine

    with reported(), warehouse("controller") as connection:
        found = quarantine.list_files(connection)
    print_table(
        ("file", "name", "format", "status", "since", "reason"),
        [
            (each.file_id, each.name, each.format, f"{each.status}{', released' if each.is_released else ''}",
             each.since, each.reason)
            for each in found
        ],
    )  # fmt: skip


@quarantine_app.command("show")
def quarantine_show(file_id: Annotated[int, typer.Argument(metavar="FILE", help="Number of the file.")]) -> None:
    """Show all that is known of a file: what was counted, what is wrong and where, what was decided."""
    from tieout.landing import quarantine

    with reported(), warehouse("controller") as connection:
        found = quarantine.describe(connection, file_id)
    print_table(("what", "found"), [(what, text) for what, text in found])


@quarantine_app.command("release")
def quarantine_release(
    file_id: Annotated[int, typer.Argument(metavar="FILE", help="Number of the file.")],
    reason: Annotated[str, typer.Option(help="Why it is right to load it; kept for good.")],
    by: Annotated[str, typer.Option(help="Who decides; by default the login name.")] = "",
) -> None:
    """Let the next ingest load a held file in spite of its reason, or read a refused one again."""
    import getpass

    from tieout.landing import quarantine

    with reported(), warehouse("controller") as connection:
        name = quarantine.release(connection, file_id, reason, by or getpass.getuser())
    console.print(f"file {file_id} ({name}) is released: the next ingest acts on it", markup=False, highlight=False)


@app.command()
def incidents(every: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False) -> None:
    """Show open incidents and whether their messages were sent."""
    with reported(), warehouse() as connection, connection.cursor() as cursor:
        cursor.execute(
            "select i.incident_id, i.severity, i.check_name, i.subject, i.message, i.owner, i.opened_at, "
            "i.resolved_at, "
            "coalesce(string_agg(o.kind || case when o.sent_at is null then ' kept' else ' sent' end, ', ' "
            "order by o.message_id), '-') "
            "from ops.incidents i left join ops.outbox o using (incident_id) "
            "where %s or i.resolved_at is null group by i.incident_id order by i.incident_id",
            (every,),
        )
        rows = cursor.fetchall()
    print_table(("no", "severity", "check", "subject", "message", "owner", "opened", "resolved", "messages"), rows)


@app.command()
def proof(
    day: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], metavar="DATE", help="Business date.")],
) -> None:
    """Show the proof of a published close line by line; exit code 1 if it does not hold and nobody signed for it."""
    with reported(), warehouse() as connection, connection.cursor() as cursor:
        cursor.execute(
            "select check_name, subject, currency, expected_count, actual_count, expected_minor, actual_minor, "
            "is_proven, e.signed_by "
            "from (select * from published.proof_items union all select * from published.proof_clearing) p "
            "left join published.proof_exceptions e using (business_date, check_name, subject, currency, close_id) "
            "where business_date = %s "
            "order by is_proven, check_name, subject, currency",
            (day.date(),),
        )
        rows = cursor.fetchall()
    if not rows:
        complain(f"no close of {day.date()} is published")
        raise typer.Exit(BAD_INPUT)
    heads = ("check", "subject", "currency", "expected", "found", "expected minor", "found minor", "proven", "signed")
    print_table(heads, rows)
    if not all(proven or signed_by for *_, proven, signed_by in rows):
        raise typer.Exit(FAILED)


@app.command()
def verify(
    batches: Annotated[list[int] | None, typer.Argument(metavar="BATCH", help="As in ops.batches; none: all.")] = None,
) -> None:
    """Prove loaded batches again, in raw and, where it can still tell, at the source; exit code 1 if one fails."""
    from tieout.extraction.verify import source_addresses, verify_batches
    from tieout.local.machine import Machine
    from tieout.sources import load_registry

    with reported(), warehouse("loader") as connection:
        told = os.environ if os.environ.get("TIEOUT_WAREHOUSE_DSN") else Machine().environment()
        registry = load_registry()
        verdicts = verify_batches(connection, registry, batches or (), source_addresses(registry, told))
    print_table(
        ("batch", "source", "table", "against", "holds", "found"),
        [(v.batch_id, v.source, v.table, v.against, v.holds, v.said) for v in verdicts],
    )
    if not all(v.holds or (v.holds is None and v.against == "source") for v in verdicts):
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    app()

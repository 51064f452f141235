"""The books as a controller wants to see them at the end of a day: what ties out, what is open, what is proven.

Read in one REPEATABLE READ transaction, so that every figure belongs to the same close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any, NamedTuple

from psycopg2.errors import InvalidSchemaName, UndefinedTable
from psycopg2.extensions import connection as Connection
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tieout.money import to_text

BREAKS_MAX = 40
INCIDENTS_MAX = 12


class NothingPublishedError(RuntimeError):
    """No close has been published yet, so there are no books to show."""


class Head(NamedTuple):
    """The close that stands: the newest one published."""

    book: str
    business_date: date
    close_id: int
    published_at: datetime
    closes: int
    reporting_currency: str


class Closed(NamedTuple):
    """One published close: its items, carried ones too; of these matched and open; lines it booked; time it took.

    ``exceptions`` are lines of its proof that do not hold and that two people signed for.
    """

    business_date: date
    items: int
    matched: int
    open: int
    journal_lines: int
    seconds: float
    exceptions: int = 0


class Side(NamedTuple):
    """One side of a reconciliation: numbers of items by how they ended the close."""

    reconciliation: str
    side: str
    items: int
    matched: int
    excluded: int
    open: int
    timing: int


class OpenBreaks(NamedTuple):
    """Open breaks of one code; ``value_minor`` is what is at risk, in the reporting currency, None if unvalued."""

    reconciliation: str
    break_code: str
    is_timing: bool
    breaks: int
    items: int
    value_minor: int | None
    oldest: date
    owner: str


class Proof(NamedTuple):
    """One check of the proof: how many comparisons it made, how many failed, and the first that did.

    ``excused`` are those that failed and that two people signed for; they are not among the failed.
    """

    check_name: str
    comparisons: int
    failed: int
    first_failure: str | None
    excused: int = 0


class Excepted(NamedTuple):
    """An exception the close that stands was published with; the difference is in minor units, found less expected."""

    check_name: str
    subject: str
    currency: str
    difference_count: int
    difference_minor: int
    since: date
    signed_by: str


class Balance(NamedTuple):
    """Balance of an account type in one currency, minor units, debit positive."""

    currency: str
    account_type: str
    balance_minor: int


class Incident(NamedTuple):
    """An open incident, and whether its message has left."""

    severity: str
    check_name: str
    subject: str
    message: str
    owner: str
    opened_at: datetime
    sent: bool


class Kpi(NamedTuple):
    """A figure over all published days; ``value`` is text in its own unit, ``target`` likewise."""

    label: str
    value: str
    target: str


@dataclass(frozen=True)
class Books:
    """Everything the overview shows, of one close."""

    head: Head
    closes: list[Closed]
    sides: list[Side]
    breaks: list[OpenBreaks]
    proofs: list[Proof]
    broken_seals: list[int]
    balances: list[Balance]
    kpis: list[Kpi]
    incidents: list[Incident]
    resolved_incidents: int
    exceptions: Sequence[Excepted] = ()

    @property
    def unexplained(self) -> int:
        """Comparisons of the proof that failed and that nobody signed for."""
        return sum(proof.failed for proof in self.proofs)

    @property
    def proven(self) -> bool:
        """Whether every proof holds or is signed for, the books balance, and every seal fits its journal."""
        balanced = all(
            sum(balance.balance_minor for balance in group) == 0
            for _, group in groupby(self.balances, key=lambda balance: balance.currency)
        )
        return bool(self.proofs and self.balances) and not self.unexplained and balanced and not self.broken_seals


HEAD = """
    select p.book, p.business_date, p.close_id, c.published_at,
        (select count(*) from ops.published every where every.book = p.book), b.reporting_currency
    from ops.published p
    join ops.closes c on c.close_id = p.close_id
    join rules.books b on b.book = p.book
    where p.book = %(book)s
    order by p.business_date desc limit 1"""
CLOSES = """
    select p.business_date,
        sum(s.item_count)::bigint,
        coalesce(sum(s.item_count) filter (where s.status = 'matched'), 0)::bigint,
        coalesce(sum(s.item_count) filter (where s.status = 'open'), 0)::bigint,
        min(l.line_count), min(extract(epoch from c.published_at - c.opened_at))::float, min(c.exception_count)
    from ops.published p
    join ops.closes c on c.close_id = p.close_id
    left join ledger.seals l on l.close_id = p.close_id
    left join published.reconciliation_summary s on s.close_id = p.close_id
    where p.book = %(book)s
    group by p.business_date order by p.business_date desc limit 10"""
SIDES = """
    select s.reconciliation, s.side, sum(s.item_count)::bigint,
        coalesce(sum(s.item_count) filter (where s.status = 'matched'), 0)::bigint,
        coalesce(sum(s.item_count) filter (where s.status = 'excluded'), 0)::bigint,
        coalesce(sum(s.item_count) filter (where s.status = 'open'), 0)::bigint,
        coalesce(sum(s.item_count) filter (where s.status = 'open' and c.is_timing), 0)::bigint
    from published.reconciliation_summary s
    left join rules.break_codes c on c.break_code = s.outcome
    where s.business_date = %(day)s
    group by s.reconciliation, s.side order by s.reconciliation, s.side"""
BREAKS = """
    select reconciliation, break_code, is_timing, count(*), sum(item_count)::bigint,
        case when bool_and(reporting_exposure_minor is not null) then sum(reporting_exposure_minor)::bigint end,
        min(first_seen_business_date), min(owner)
    from published.break_register
    where business_date = %(day)s
    group by reconciliation, break_code, is_timing
    order by is_timing, 6 desc nulls first, reconciliation, break_code"""
PROOFS = """
    select check_name, count(*), count(*) filter (where is_proven is not true and not is_excused),
        min(concat_ws(' ', subject, currency) || ': expected ' || expected_count || ' / ' || expected_minor
            || ', found ' || actual_count || ' / ' || actual_minor) filter (where is_proven is not true),
        count(*) filter (where is_excused)
    from (
        select proof.*, exists (
            select from published.proof_exceptions e
            where e.business_date = proof.business_date and e.check_name = proof.check_name
                and e.subject = proof.subject and e.currency = proof.currency
                and e.difference_count = proof.actual_count - proof.expected_count
                and e.difference_minor = proof.actual_minor - proof.expected_minor
        ) as is_excused
        from (select * from published.proof_items union all select * from published.proof_clearing) proof
    ) judged
    where %(every)s or business_date = %(day)s
    group by check_name order by check_name"""
EXCEPTIONS = """
    select check_name, subject, currency, difference_count, difference_minor, first_seen_business_date, signed_by
    from published.proof_exceptions where business_date = %(day)s
    order by first_seen_business_date, check_name, subject, currency"""
BALANCES = """
    select currency, account_type, sum(balance_minor)::bigint
    from published.trial_balance
    where business_date = %(day)s
    group by currency, account_type order by currency, account_type"""
SEALS = """
    select s.close_id
    from (select *, lag(seal, 1, '') over (order by seal_no) as seal_before from ledger.seals) s
    where %(every)s and s.lines_digest <> ledger.lines_digest(s.close_id)
        or s.previous_seal <> s.seal_before
        or s.seal <> encode(sha256(convert_to(
            s.previous_seal || '|' || s.close_id || '|' || s.lines_digest, 'UTF8')), 'hex')
    union all
    select p.close_id from ops.published p where not exists (select from ledger.seals s where s.close_id = p.close_id)
    order by 1"""
INCIDENTS = """
    select i.severity, i.check_name, i.subject, i.message, i.owner, i.opened_at,
        exists (select from ops.outbox o where o.incident_id = i.incident_id and o.sent_at is not null)
    from ops.incidents i
    where i.resolved_at is null
    order by i.severity, i.opened_at, i.check_name, i.subject"""
RESOLVED = "select count(*) from ops.incidents where resolved_at is not null"
# A sum of which a part could not be valued is no figure: null, not the rest.
DAILY = """
    select sum(authorised_count)::bigint, sum(submitted_count)::bigint,
        case when bool_and(captured_reporting_minor is not null or captured_minor = 0)
            then sum(captured_reporting_minor)::bigint end,
        case when bool_and(refunded_reporting_minor is not null or refunded_minor = 0)
            then sum(refunded_reporting_minor)::bigint end,
        sum(dispute_count)::bigint, sum(captured_count)::bigint,
        case when bool_and(cost_reporting_minor is not null) then sum(cost_reporting_minor)::bigint end,
        case when bool_and(settled_reporting_minor is not null) then sum(settled_reporting_minor)::bigint end,
        sum(settlement_lag_days_total)::bigint, sum(banked_count)::bigint
    from published.kpi_daily"""
MATCHED = """
    select reconciliation, sum(matched_count)::bigint, sum(due_count)::bigint,
        case when bool_and(matched_reporting_minor is not null) then sum(matched_reporting_minor)::bigint end,
        case when bool_and(due_reporting_minor is not null) then sum(due_reporting_minor)::bigint end
    from published.kpi_match where business_date = %(day)s
    group by reconciliation order by reconciliation"""
TARGETS = """
    select metric, target_value from rules.kpi_targets
    where valid_from <= %(day)s and coalesce(valid_to, 'infinity'::date) > %(day)s"""


def read(connection: Connection, book: str = "global", every_close: bool = True) -> Books:
    """The newest published books.

    :param connection: to the warehouse, of a role that reads ``published``, ``rules``, ``ops`` and ``ledger``.
    :param every_close: prove every published close, and recompute the digest of every journal line. Otherwise only
        the newest close's proof and the chain of seals are looked at, which takes as long on any day.
    :raises NothingPublishedError: there are none.
    """
    connection.rollback()
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    try:
        with connection, connection.cursor() as cursor:
            given: dict[str, Any] = {"book": book, "every": every_close}

            def rows(query: str) -> list[tuple[Any, ...]]:
                cursor.execute(query, given)
                return cursor.fetchall()

            found = rows(HEAD)
            if not found:
                raise NothingPublishedError(f"no close of book {book} is published yet")
            head = Head(*found[0])
            given["day"] = head.business_date
            return Books(
                head=head,
                closes=[Closed(*row) for row in rows(CLOSES)],
                sides=[Side(*row) for row in rows(SIDES)],
                breaks=[OpenBreaks(*row) for row in rows(BREAKS)],
                proofs=[Proof(*row) for row in rows(PROOFS)],
                broken_seals=[row[0] for row in rows(SEALS)],
                balances=[Balance(*row) for row in rows(BALANCES)],
                kpis=_kpis(rows(DAILY)[0], rows(MATCHED), dict(rows(TARGETS)), head.reporting_currency),
                incidents=[Incident(*row) for row in rows(INCIDENTS)],
                resolved_incidents=rows(RESOLVED)[0][0],
                exceptions=[Excepted(*row) for row in rows(EXCEPTIONS)],
            )
    except (UndefinedTable, InvalidSchemaName) as error:
        raise NothingPublishedError(f"the warehouse is not deployed yet: {str(error).splitlines()[0]}") from error
    finally:
        connection.set_session(isolation_level="DEFAULT", readonly=False)


def _kpis(daily: Sequence[Any], matched: Sequence[Any], targets: dict[str, Any], currency: str) -> list[Kpi]:
    """:param matched: name, matched and due count, matched and due amount of each reconciliation."""
    authorised, submitted, captured, refunded, disputes, captures, cost, settled, lag, banked = daily

    def ratio(label: str, metric: str, part: int | None, whole: int | None) -> Kpi:
        target = targets.get(metric)
        return Kpi(label, percent(part, whole), "" if target is None else f"{target:.1%}")

    def mean(label: str, metric: str, unit: str, part: int | None, whole: int | None) -> Kpi:
        target = targets.get(metric)
        value = f"{part / whole:,.1f} {unit}" if part is not None and whole else "-"
        return Kpi(label, value, "" if target is None else f"{target:,.0f} {unit}")

    return [
        ratio("authorisation rate", "authorisation_rate", authorised, submitted),
        Kpi("captured volume", money(captured, currency), ""),
        ratio("refund rate, by value", "refund_rate", refunded, captured),
        ratio("dispute rate, by count", "dispute_rate", disputes, captures),
        mean("cost of settled volume", "cost_bps", "bps", None if cost is None else cost * 10_000, settled),
        mean("capture to bank", "settlement_lag_days", "days", lag, banked),
        *(
            rate
            for name, matched_count, due_count, matched_minor, due_minor in matched
            for rate in (
                ratio(f"match rate of {name}, by count", "match_rate_by_count", matched_count, due_count),
                ratio(f"match rate of {name}, by amount", "match_rate_by_amount", matched_minor, due_minor),
            )
        ),
    ]


def percent(part: int | None, whole: int | None) -> str:
    """A share with two decimals, ``-`` when there is nothing to take it of; never rounded up to 100%."""
    if part is None or not whole:
        return "-"
    shown = f"{part / whole:.2%}"
    return "99.99%" if shown == "100.00%" and part < whole else shown


def money(minor: int | None, currency: str) -> str:
    """Minor units with the currency's decimals and grouped digits; ``not valued`` for None."""
    if minor is None:
        return "not valued"
    whole, _, decimals = to_text(abs(minor), currency).partition(".")
    sign = "-" if minor < 0 else ""
    return f"{sign}{int(whole):,}{'.' + decimals if decimals else ''} {currency}"


def render(books: Books, console: Console) -> None:
    """Print the books as tables."""
    head = books.head
    console.print()
    console.rule(f"[bold]book {head.book}, business date {head.business_date}[/]", align="left")
    console.print(
        f"close {head.close_id}, the last of {head.closes}; published {head.published_at:%Y-%m-%d %H:%M:%S} UTC",
        style="dim", highlight=False,
    )  # fmt: skip
    kept = sum(not incident.sent for incident in books.incidents)
    alerts = f"{len(books.incidents)} open ({kept} kept here, not sent), {books.resolved_incidents} resolved"
    for title, table in (
        ("Closes, newest first", _closes(books)),
        ("Reconciliations at this close", _sides(books)),
        ("Open breaks, by what is at risk", _breaks(books)),
        ("Proof of every published close", _proofs(books)),
        ("Trial balance, debit positive", _balances(books)),
        ("Figures over all published days", _kpi_table(books)),
        (f"Alerts: {alerts}", _incidents(books)),
    ):
        console.print(f"\n[bold]{title}[/]", highlight=False)
        console.print(table)
    console.print()
    verdict = "[bold green]proven[/]" if books.proven else "[bold red]NOT PROVEN[/]"
    if books.proven and books.exceptions:
        verdict = f"[bold yellow]proven but for {len(books.exceptions)} exception(s) that two people signed for[/]"
    console.print(f"The books are {verdict}.   unexplained: [bold]{books.unexplained}[/]", highlight=False)
    for exception in books.exceptions:
        console.print(f"[yellow]{escape(spell(exception))}[/]", highlight=False)
    for close_id in books.broken_seals:
        console.print(f"[red]the journal of close {close_id} is not what was sealed[/]")


def spell(exception: Excepted) -> str:
    """An exception in a sentence."""
    counted = f"{exception.difference_count:+,} item(s)" if exception.difference_count else ""
    # What is only counted has no amount.
    valued = exception.difference_minor and exception.currency != "XXX"
    amount = money(int(exception.difference_minor), exception.currency) if valued else ""
    return (
        f"{exception.check_name} {exception.subject} is off by {' and '.join(filter(None, (counted, amount)))} since "
        f"{exception.since}, signed by {exception.signed_by}"
    )


def _table(*columns: str, numbers: int = 0) -> Table:
    """A table whose last ``numbers`` columns are right-aligned."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        right = place >= len(columns) - numbers
        table.add_column(column, justify="right" if right else "left", header_style="dim", no_wrap=right)
    return table


def _closes(books: Books) -> Table:
    columns = ("business date", "items", "matched", "open", "journal lines", "exceptions", "seconds")
    table = _table(*columns, numbers=6)
    for close in books.closes:
        figures = (close.items, close.matched, close.open, close.journal_lines, close.exceptions)
        table.add_row(str(close.business_date), *(f"{figure:,}" for figure in figures), f"{close.seconds:,.0f}")
    return table


def _sides(books: Books) -> Table:
    columns = ("reconciliation", "side", "items", "matched", "excluded", "open", "of these not due")
    table = _table(*columns, numbers=5)
    for side in books.sides:
        figures = (side.items, side.matched, side.excluded, side.open, side.timing)
        table.add_row(side.reconciliation, side.side, *(f"{figure:,}" for figure in figures))
    return table


def _breaks(books: Books) -> Table:
    columns = ("reconciliation", "code", "owner", "since", "breaks", "items", "value")
    table = _table(*columns, numbers=3)
    for found in books.breaks[:BREAKS_MAX]:
        table.add_row(
            found.reconciliation, found.break_code, found.owner, str(found.oldest), f"{found.breaks:,}",
            f"{found.items:,}", money(found.value_minor, books.head.reporting_currency),
            style="dim" if found.is_timing else None,
        )  # fmt: skip
    if len(books.breaks) > BREAKS_MAX:
        table.add_row(f"and {len(books.breaks) - BREAKS_MAX} more codes", *[""] * 6)
    return table


def _proofs(books: Books) -> Table:
    columns = ("check", "first difference", "compared", "excused", "unexplained")
    table = _table(*columns, numbers=3)
    for proof in books.proofs:
        style = "red" if proof.failed else "yellow" if proof.excused else None
        figures = (f"{figure:,}" for figure in (proof.comparisons, proof.excused, proof.failed))
        table.add_row(proof.check_name, escape(proof.first_failure or ""), *figures, style=style)
    return table


def _balances(books: Books) -> Table:
    currencies = sorted({balance.currency for balance in books.balances})
    table = _table("account", *currencies, numbers=len(currencies))
    cells = {(balance.account_type, balance.currency): balance.balance_minor for balance in books.balances}
    for account in sorted({balance.account_type for balance in books.balances}):
        table.add_row(account, *(_figure(cells.get((account, currency)), currency) for currency in currencies))
    totals = [sum(row.balance_minor for row in books.balances if row.currency == currency) for currency in currencies]
    figures = (_figure(total, currency) for total, currency in zip(totals, currencies, strict=True))
    table.add_row("total", *figures, style="bold red" if any(totals) else "bold")
    return table


def _figure(minor: int | None, currency: str) -> str:
    return "" if minor is None else money(minor, currency).rpartition(" ")[0]


def _kpi_table(books: Books) -> Table:
    table = _table("metric", "value", "target", numbers=2)
    for kpi in books.kpis:
        table.add_row(*kpi)
    return table


def _incidents(books: Books) -> Table:
    table = _table("severity", "check", "subject", "message")
    for found in books.incidents[:INCIDENTS_MAX]:
        style = "red" if found.severity == "fail" else "yellow"
        table.add_row(found.severity, found.check_name, escape(found.subject), escape(found.message), style=style)
    if len(books.incidents) > INCIDENTS_MAX:
        table.add_row("", f"and {len(books.incidents) - INCIDENTS_MAX} more", "", "tieout incidents")
    return table

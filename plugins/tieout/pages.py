"""The page "Tieout" of Airflow's UI: the head close, its proof, its open breaks, and every incident with its messages.

Plain HTML from the database, escaped everywhere; the books come from one REPEATABLE READ transaction.
It shows the head close's proof; the DAG `watch` is who recomputes the journal's digests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Any

from psycopg2.extensions import connection as Connection

from tieout import overview

INCIDENTS_MAX = 200

STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:78rem;padding:0 1rem;
 color:#1c2733;background:#fff}
h1{font-size:1.3rem;margin:0 0 .2rem} h2{font-size:1.05rem;margin:2rem 0 .4rem} p{margin:.2rem 0}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #e1e6eb;vertical-align:top}
th{font-weight:600;color:#51606f}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.quiet{color:#6b7885}
.good{color:#0a6b3d;font-weight:600} .warn{color:#8a5300;font-weight:600} .bad{color:#b3261e;font-weight:600}
ul{margin:.2rem 0 0;padding-left:1.1rem}
@media (prefers-color-scheme:dark){body{background:#15191e;color:#dfe5ea} th,td{border-color:#2d353d}
 th,.quiet{color:#97a3af} .good{color:#5ecf97} .warn{color:#f0b860} .bad{color:#ff8a80}}
"""
INCIDENT_HEADS = ("#", "state", "check", "subject", "what it is, and its messages", "owner", "opened")


def tieout_page(connection: Connection, book: str = "global") -> str:
    """The whole page as HTML text.

    :param connection: to the warehouse, in no transaction; it is only read.
    """
    try:
        books = overview.read(connection, book, every_close=False)
    except overview.NothingPublishedError as error:
        head = f"<h1>Tieout</h1><p>{escape(str(error))}. Run the DAGs <b>ingest</b> and <b>close</b>.</p>"
        sections = []
    else:
        head = _head(books)
        sections = [_breaks(books), _sides(books), _proofs(books)]
    # What asks for somebody comes before what only informs.
    content = "\n".join([head, _incidents(connection), *sections])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tieout</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{content}</body></html>"
    )


def _head(books: overview.Books) -> str:
    head = books.head
    compared = sum(proof.comparisons for proof in books.proofs)
    verdict = (
        f'<span class="good">proven</span>, {compared:,} comparisons, 0 unexplained'
        if books.proven
        else f'<span class="bad">NOT PROVEN</span>, {books.unexplained:,} comparisons unexplained'
    )
    if books.proven and books.exceptions:
        said = "".join(f"<li>{escape(overview.spell(exception))}</li>" for exception in books.exceptions)
        verdict = f'<span class="warn">proven but for what two people signed for</span><ul>{said}</ul>'
    return (
        f"<h1>Book {escape(head.book)}, business date {head.business_date}</h1>"
        f'<p class="quiet">close {head.close_id}, published {_moment(head.published_at)}</p><p>{verdict}</p>'
    )


def _sides(books: overview.Books) -> str:
    rows = [
        [
            side.reconciliation, side.side, f"{side.items:,}", f"{side.matched:,}", f"{side.excluded:,}",
            f"{side.open:,}", f"{side.timing:,}",
        ]
        for side in books.sides
    ]  # fmt: skip
    heads = ("reconciliation", "side", "items", "matched", "excluded", "open", "of these not due")
    return "<h2>Reconciliations</h2>" + _table(heads, rows, numbers=5)


def _breaks(books: overview.Books) -> str:
    rows = [
        [
            found.reconciliation, found.break_code, found.owner, str(found.oldest), f"{found.breaks:,}",
            overview.money(found.value_minor, books.head.reporting_currency),
        ]
        for found in books.breaks
    ]  # fmt: skip
    heads = ("reconciliation", "code", "owner", "oldest since", "breaks", "at risk")
    return "<h2>Open breaks</h2>" + _table(heads, rows, numbers=2)


def _proofs(books: overview.Books) -> str:
    rows = [
        [
            proof.check_name, proof.first_failure or "", f"{proof.comparisons:,}", f"{proof.excused:,}",
            f"{proof.failed:,}",
        ]
        for proof in books.proofs
    ]  # fmt: skip
    heads = ("check", "first difference", "compared", "excused", "unexplained")
    return "<h2>Proof</h2>" + _table(heads, rows, numbers=3)


def _incidents(connection: Connection) -> str:
    with connection, connection.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read, read only")
        cursor.execute(
            "select incident_id, severity, check_name, subject, message, owner, opened_at, resolved_at "
            "from ops.incidents order by resolved_at is not null, severity, opened_at desc, incident_id desc limit %s",
            (INCIDENTS_MAX,),
        )
        incidents = cursor.fetchall()
        cursor.execute(
            "select incident_id, kind, body, sent_at, attempts, last_error from ops.outbox "
            "where incident_id = any(%s) order by message_id",
            ([incident[0] for incident in incidents],),
        )
        messages: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for incident_id, *message in cursor.fetchall():
            messages[incident_id].append(tuple(message))
    still = sum(incident[7] is None for incident in incidents)
    lines = []
    for number, severity, check, subject, message, owner, opened_at, resolved_at in incidents:
        state = (
            f'<span class="good">resolved</span><br><span class="quiet">{_moment(resolved_at)}</span>'
            if resolved_at
            else f'<span class="{"bad" if severity == "fail" else "warn"}">{escape(severity)}</span>'
        )
        sent = "".join(f"<li>{_message(*one)}</li>" for one in messages[number])
        lines.append(
            f'<tr id="incident-{number}"><td class="n">{number}</td><td>{state}</td><td>{escape(check)}</td>'
            f"<td>{escape(subject)}</td><td>{escape(message)}<ul>{sent}</ul></td><td>{escape(owner)}</td>"
            f"<td>{_moment(opened_at)}</td></tr>"
        )
    heads = "".join(f"<th>{head}</th>" for head in INCIDENT_HEADS)
    title = f"<h2>Incidents: {still} open, {len(incidents) - still} resolved among the latest {INCIDENTS_MAX}</h2>"
    if not incidents:
        return title + '<p class="quiet">None. The DAG watch opens them.</p>'
    return f"{title}<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _message(kind: str, body: str, sent_at: datetime | None, attempts: int, last_error: str | None) -> str:
    if sent_at is not None:
        state = f"sent {_moment(sent_at)}"
    elif attempts:
        state = f"kept after {attempts} attempt(s): {escape(last_error or 'no answer')}"
    else:
        state = "kept, not sent"
    return f'{escape(kind)}: {escape(body)} <span class="quiet">({state})</span>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> str:
    """A table whose last ``numbers`` columns are right-aligned; cells are escaped here."""
    first = len(heads) - numbers

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if place >= first else ''}>{escape(cell)}</{tag}>" for place, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    empty = f'<tr><td colspan="{len(heads)}" class="quiet">none</td></tr>'
    return f"<table><thead><tr>{line(heads, 'th')}</tr></thead><tbody>{body or empty}</tbody></table>"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} {at.tzname() or 'UTC'}"

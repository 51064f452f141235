"""The close: batches and actions no ancestor consumed -> dbt -> proof -> publish.

A close is opened over fixed lists of batches and of what people decided about breaks, built in steps, proven and
published in one transaction.
Whoever opens or takes over a close gets a fencing token; a run that was overtaken can no longer touch it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from uuid import uuid4

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from tieout.dbt_runner import DbtRunner, NodeResult, Server, project_digest
from tieout.periods import locked_period

# What each step builds (a dbt tag) and the proof that has to hold before the next one may start.
STEPS = {
    "reconcile": "reconciliation.proof_items",
    "books": "accounting.proof_clearing",
    "monitoring": None,
}
# With these it is proven: each stands on the ones before it.
PROVEN_BY = ("books", "monitoring")
# Closes whose artefacts (compiled SQL, run results) are kept for a look.
ARTEFACTS_KEPT = 3
UNPROVEN_SHOWN_MAX = 20


class CloseRefused(RuntimeError):
    """The close cannot be opened, built or published as asked; the message says what to do."""


class CloseNotProven(RuntimeError):
    """A model, a test or a line of the proof failed: the close is not published, readers keep the last proven one."""


@dataclass(frozen=True)
class Close:
    """A close as its runner holds it; ``state`` is ``published`` when there was nothing left to do."""

    close_id: int
    book: str
    business_date: date
    parent_close_id: int
    fencing_token: int
    state: str


@dataclass(frozen=True)
class StepResult:
    """What one step built, with the time its SQL took."""

    step: str
    nodes: Sequence[NodeResult]

    @property
    def sql_seconds(self) -> float:
        """Seconds spent in models and tests."""
        return sum(node.seconds for node in self.nodes)


def open_close(connection: Connection, book: str, business_date: date, as_of: datetime) -> Close:
    """Open the close of a business date over every committed batch and action that no ancestor consumed.

    A published date is returned as it is. A close that failed or whose runner died is taken over with a new
    fencing token and fresh lists: nothing of it was published, so nothing is rewritten. An action alone is enough
    to open a close, and so is something that an earlier close left for this date.

    :raises CloseRefused: another date's close is unfinished, a later date stands, or there is nothing to close.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(hashtext('tieout close ' || %s))", (book,))
        cursor.execute(
            "select c.close_id, coalesce(c.parent_close_id, 0), c.fencing_token from ops.published p "
            "join ops.closes c using (close_id) where p.book = %s and p.business_date = %s",
            (book, business_date),
        )
        published = cursor.fetchone()
        if published is not None:
            return Close(published[0], book, business_date, published[1], published[2], "published")

        cursor.execute(
            "select close_id, business_date from ops.published where book = %s order by business_date desc limit 1",
            (book,),
        )
        parent_close_id, parent_date = cursor.fetchone() or (None, None)
        if parent_date is not None and parent_date > business_date:
            raise CloseRefused(
                f"book {book} is published up to {parent_date}: {business_date} lies before it. "
                "Late data enters the next close with its own value date"
            )
        locked = locked_period(cursor, book, business_date, business_date)
        if locked is not None:
            raise CloseRefused(
                f"{business_date} lies in the locked period {locked[0]} to {locked[1]} of book {book}: what is late "
                "enters the first close after it, with its own value date"
            )
        close_id, token = _claim(cursor, book, business_date, parent_close_id, as_of)
        _release(cursor, close_id)
        cursor.execute(
            "insert into ops.close_batches (close_id, batch_id) "
            "select %s, b.batch_id from ops.batches b where not exists ("
            "  select from ops.close_batches taken where taken.batch_id = b.batch_id"
            "  and taken.close_id in (select close_id from ops.close_chain(%s)))",
            (close_id, parent_close_id),
        )
        batches = cursor.rowcount
        cursor.execute(
            "insert into ops.close_actions (close_id, action_id) "
            "select %s, a.action_id from ops.break_actions a where a.book = %s and not exists ("
            "  select from ops.close_actions taken where taken.action_id = a.action_id"
            "  and taken.close_id in (select close_id from ops.close_chain(%s)))",
            (close_id, book, parent_close_id),
        )
        if batches == 0 and cursor.rowcount == 0 and not _something_waits(cursor, parent_close_id, business_date):
            raise CloseRefused(f"nothing was loaded since the last close: run the ingest of {business_date} first")
        return Close(close_id, book, business_date, parent_close_id or 0, token, "running")


def published_until(connection: Connection, book: str) -> date | None:
    """The last business date of the book that is published; None before the first."""
    with connection, connection.cursor() as cursor:
        cursor.execute("select max(business_date) from ops.published where book = %s", (book,))
        row = cursor.fetchone()
    return row[0] if row else None


def _something_waits(cursor: Cursor, parent_close_id: int | None, business_date: date) -> bool:
    """Whether the parent took something of a later date that is due now: an item, or an event to be booked."""
    if parent_close_id is None:
        return False
    cursor.execute(
        "select exists (select from published.reconciliation_items "
        "  where close_id = %(parent)s and exclusion_reason = 'FUTURE_DATED' and value_date <= %(date)s) "
        "or exists (select from published.deferred_events "
        "  where close_id = %(parent)s and event_date <= %(date)s)",
        {"parent": parent_close_id, "date": business_date},
    )
    ((waits,),) = cursor.fetchall()
    return bool(waits)


def _claim(
    cursor: Cursor, book: str, business_date: date, parent_close_id: int | None, as_of: datetime
) -> tuple[int, int]:
    digest = project_digest()
    cursor.execute(
        "select close_id, business_date, state, reclosing_id from ops.closes "
        "where book = %s and state in ('running', 'failed', 'proven') order by close_id limit 1 for update",
        (book,),
    )
    unfinished = cursor.fetchone()
    if unfinished is not None and unfinished[3] is not None:
        raise CloseRefused(
            f"the book is being closed again from {unfinished[1]} on: run tieout close reopen {unfinished[1]} until it "
            f"is published, or give it up with: tieout close abort {unfinished[0]}"
        )
    if unfinished is not None and unfinished[1] != business_date:
        raise CloseRefused(
            f"close {unfinished[0]} of {unfinished[1]} is {unfinished[2]}: run it again until it is published, "
            f"or give it up with: tieout close abort {unfinished[0]}"
        )
    if unfinished is not None:
        cursor.execute(
            "update ops.closes set state = 'running', fencing_token = fencing_token + 1, failure = null, "
            "opened_at = clock_timestamp(), builder = null, "
            "rules_digest = %s, as_of = %s, parent_close_id = %s where close_id = %s returning close_id, fencing_token",
            (digest, as_of, parent_close_id, unfinished[0]),
        )
    else:
        cursor.execute(
            "insert into ops.closes (book, business_date, generation, parent_close_id, state, rules_digest, as_of) "
            "select %(book)s, %(date)s, coalesce(max(generation), 0) + 1, %(parent)s, 'running', %(digest)s, %(as_of)s "
            "from ops.closes where book = %(book)s and business_date = %(date)s returning close_id, fencing_token",
            {"book": book, "date": business_date, "parent": parent_close_id, "digest": digest, "as_of": as_of},
        )
    claimed = cursor.fetchone()
    if claimed is None:
        raise CloseRefused(f"close of {business_date} vanished while it was claimed: run it again")
    return int(claimed[0]), int(claimed[1])


def build(server: Server, close_id: int, fencing_token: int, step: str, state: Path) -> StepResult:
    """Build one step of a close with dbt and hold it against its proof.

    A step that failed may be built again by itself. The close is proven once ``books`` is, and every step from there
    on that is built leaves it proven.

    :param step: ``reconcile``, ``books`` or ``monitoring``.
    :raises CloseNotProven: a model, test or line of the proof failed; the close is marked failed.
    :raises CloseRefused: the close was taken over, a step before this one is not built and proven, or the rules are
        not those it was opened with.
    """
    if step not in STEPS:
        raise ValueError(f"unknown step {step!r}: use one of {', '.join(STEPS)}")
    connection = psycopg2.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, dbname=server.database
    )
    try:
        runner = DbtRunner(server, state)
        with runner.at_work():
            variables = _hold(connection, close_id, fencing_token, step)
            nodes = runner.run(
                ["build", "--select", f"tag:{step}", "--exclude-resource-type", "seed", "unit_test",
                 "--indirect-selection", "buildable"],
                variables,
                name=f"close-{close_id}/{step}",
            )  # fmt: skip
        _still_held(connection, close_id, str(variables["builder"]))
        _record(connection, close_id, step, nodes)
        runner.prune([f"close-{kept}" for kept in range(close_id - ARTEFACTS_KEPT + 1, close_id + 1)])
        problems = [f"{n.node}: {n.message or n.status}" for n in nodes if n.status in ("error", "fail")]
        proof = STEPS[step]
        if proof is not None and not problems:
            problems = _unproven(connection, proof, close_id)
        if problems:
            _set_state(connection, close_id, fencing_token, "failed", "\n".join(problems))
            raise CloseNotProven(
                f"close {close_id} of {variables['business_date']} is not proven at step {step}:\n"
                + "\n".join(problems)
            )
        if step in PROVEN_BY:
            _set_state(connection, close_id, fencing_token, "proven", None)
    finally:
        connection.close()
    return StepResult(step, nodes)


def publish(connection: Connection, close_id: int, fencing_token: int) -> int:
    """Book the journal and flip the pointer, in one transaction.

    :returns: journal lines booked now; 0 when the close was already published.
    :raises psycopg2.Error: the database refused (not proven, overtaken, unbalanced); nothing has changed.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute("select ledger.publish_close(%s, %s)", (close_id, fencing_token))
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def abort(connection: Connection, close_id: int) -> str:
    """Give an unpublished close up; its batches and actions are free for the next one.

    A close that a re-close builds is given up with its whole chain: readers keep the closes they see.

    :returns: the state it was in.
    :raises CloseRefused: there is no such close, or it is published.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute("select reclosing_id from ops.closes where close_id = %s", (close_id,))
        row = cursor.fetchone()
        if row is None:
            raise CloseRefused(f"there is no close {close_id}")
        # In the order in which a publication takes them.
        cursor.execute("select from ops.reclosings where reclosing_id = %s for update", row)
        cursor.execute(
            "select close_id, state from ops.closes where close_id = %s or reclosing_id = %s "
            "order by close_id for update",
            (close_id, row[0]),
        )
        found: dict[int, str] = dict(cursor.fetchall())
        if found[close_id] in ("published", "superseded"):
            raise CloseRefused(f"close {close_id} is {found[close_id]} and stays as it is")
        for each in found:
            _release(cursor, each)
        cursor.execute(
            "update ops.closes set state = 'superseded', fencing_token = fencing_token + 1 where close_id = any(%s)",
            (list(found),),
        )
        cursor.execute(
            "update ops.reclosings set state = 'given up', ended_at = clock_timestamp(), "
            "fencing_token = fencing_token + 1 where reclosing_id = %s",
            row,
        )
    return found[close_id]


def _release(cursor: Cursor, close_id: int) -> None:
    """Take everything from a close that it was opened over."""
    cursor.execute("delete from ops.close_batches where close_id = %s", (close_id,))
    cursor.execute("delete from ops.close_actions where close_id = %s", (close_id,))


def _hold(connection: Connection, close_id: int, fencing_token: int, step: str) -> dict[str, object]:
    """Make this run the close's builder and return the dbt variables; whoever built it until now is overtaken."""
    builder = uuid4().hex
    with connection, connection.cursor() as cursor:
        # An earlier builder's model may hold the row until its transaction ends.
        cursor.execute("set local lock_timeout = '10min'")
        cursor.execute(
            "update ops.closes set builder = %s where close_id = %s and fencing_token = %s "
            "and state in ('running', 'failed', 'proven') "
            "returning business_date, coalesce(parent_close_id, 0), rules_digest, reclosing_id",
            (builder, close_id, fencing_token),
        )
        row = cursor.fetchone()
        if row is None:
            cursor.execute("select state, fencing_token from ops.closes where close_id = %s", (close_id,))
            found = cursor.fetchone()
            if found is None:
                raise CloseRefused(f"there is no close {close_id}")
            if found[1] != fencing_token:
                raise CloseRefused(f"close {close_id} was taken over by another run: this one stops here")
            raise CloseRefused(f"close {close_id} is {found[0]} and stays as it is")
        again = (
            f"run the DAG close for {row[0]} from its first task" if row[3] is None
            else "go on with tieout close reopen"
        )  # fmt: skip
        if row[2] != project_digest():
            raise CloseRefused(
                f"the rules are not those that close {close_id} was opened with, and half of it may be built by those: "
                f"{again}"
            )
        for earlier in list(STEPS)[: list(STEPS).index(step)]:
            if not _is_built(cursor, close_id, earlier):
                raise CloseRefused(f"close {close_id} is not at the step {step}: {earlier} is not proven; {again}")
        # A step that failed may be tried again as it is: the state says so while it is.
        cursor.execute("update ops.closes set state = 'running' where close_id = %s and state = 'failed'", (close_id,))
    return {
        "close_id": close_id, "parent_close_id": row[1], "business_date": row[0].isoformat(), "builder": builder,
    }  # fmt: skip


def _is_built(cursor: Cursor, close_id: int, step: str) -> bool:
    """Whether a step was built since the close was opened, without a failure, and its proof holds or is excused."""
    cursor.execute(
        "select coalesce(bool_and(r.built_at > c.opened_at and r.status not in ('error', 'fail')), false) "
        "from ops.closes c left join ops.build_results r on r.close_id = c.close_id and r.step = %s "
        "where c.close_id = %s",
        (step, close_id),
    )
    ((built,),) = cursor.fetchall()
    proof = STEPS[step]
    if not built or proof is None:
        return bool(built)
    cursor.execute(
        f"select exists (select from {proof} where close_id = %(close)s) and not exists ("
        "  select from ops.failed_lines(%(close)s) where proof = %(proof)s and not is_excused)",
        {"close": close_id, "proof": proof},
    )
    ((proven,),) = cursor.fetchall()
    return bool(proven)


def _still_held(connection: Connection, close_id: int, builder: str) -> None:
    """Refuse to judge a close that another run has taken meanwhile."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "select from ops.closes where close_id = %s and builder = %s and state in ('running', 'proven')",
            (close_id, builder),
        )
        if cursor.fetchone() is None:
            raise CloseRefused(f"close {close_id} was taken over by another run: this one stops here")


def _record(connection: Connection, close_id: int, step: str, nodes: Sequence[NodeResult]) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute("delete from ops.build_results where close_id = %s and step = %s", (close_id, step))
        cursor.executemany(
            "insert into ops.build_results (close_id, step, node, resource_type, status, seconds, message) "
            "values (%s, %s, %s, %s, %s, %s, %s)",
            [(close_id, step, n.node, n.resource_type, n.status, n.seconds, n.message) for n in nodes],
        )


def _unproven(connection: Connection, proof: str, close_id: int) -> list[str]:
    """The lines of a proof that neither hold nor are excused, as sentences; a proof without lines proves nothing."""
    with connection, connection.cursor() as cursor:
        cursor.execute(f"select from {proof} where close_id = %s limit 1", (close_id,))
        if cursor.fetchone() is None:
            return [f"{proof} is empty: there is nothing to prove the close with"]
        cursor.execute(
            "select check_name, subject, currency, expected_count, expected_minor, actual_count, actual_minor, detail, "
            "is_excusable from ops.failed_lines(%s) where proof = %s and not is_excused limit %s",
            (close_id, proof, UNPROVEN_SHOWN_MAX),
        )
        rows = cursor.fetchall()
    problems = [
        f"{check} {subject} {currency}: expected {expected_count} items and {expected_minor} minor units, "
        f"found {actual_count} and {actual_minor}" + (f" ({detail})" if detail else "")
        for check, subject, currency, expected_count, expected_minor, actual_count, actual_minor, detail, _ in rows
    ]
    if rows and all(row[-1] for row in rows):
        problems.append(f"repair what is named, or have two people sign for it: tieout close except {close_id}")
    return problems


def _set_state(connection: Connection, close_id: int, fencing_token: int, state: str, failure: str | None) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "update ops.closes set state = %s, failure = %s "
            "where close_id = %s and fencing_token = %s and state <> 'published'",
            (state, failure, close_id, fencing_token),
        )

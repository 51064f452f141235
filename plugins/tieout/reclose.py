"""The re-close: a past business date closed again with every date after it, seen by nobody until all of it is proven.

Each date takes what its close had taken. What was loaded since and no close of the chain took goes where it belongs:
files to the reopened date, snapshots to the close of their interval, for they say how things stood at its end. What is
of a day after the chain waits for its own close. Each new close stands on the one before it. The chain is published in
one transaction: pointers, journal and seals of all its dates, or of none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from tieout.close import STEPS, Close, CloseRefused, StepResult, build
from tieout.dbt_runner import Server, project_digest
from tieout.failpoints import Failpoint, reach
from tieout.periods import locked_period

LAST_STEP = list(STEPS)[-1]


@dataclass(frozen=True)
class Reclosing:
    """A chain as its runner holds it, its closes in the order of their dates; all bear the chain's fencing token."""

    reclosing_id: int
    book: str
    business_date: date
    fencing_token: int
    closes: tuple[Close, ...]


@contextmanager
def alone(connection: Connection, book: str) -> Iterator[None]:
    """Keep others from re-closing the book for as long as this process, or its connection, lives.

    :raises CloseRefused: somebody is at it.
    """
    key = f"tieout reclose {book}"
    with connection, connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(hashtext(%s))", (key,))
        (taken,) = cursor.fetchone() or (False,)
    if not taken:
        raise CloseRefused(f"book {book} is being re-closed by another run: wait for it, or stop it first")
    try:
        yield
    finally:
        if not connection.closed:
            with connection, connection.cursor() as cursor:
                cursor.execute("select pg_advisory_unlock(hashtext(%s))", (key,))


def reopen(
    connection: Connection, book: str, business_date: date, reason: str, actor: str, as_of: datetime
) -> Reclosing:
    """Open the chain of closes from a published date to the last one, or go on with the one that is open.

    What each close takes is fixed here. A chain that was begun goes on where it stopped, under a new fencing token;
    when the rules or the code have changed since, it is built anew from its first close.

    :param reason: why the date is closed again; kept for good.
    :param actor: who decided it.
    :raises CloseRefused: the date is not published, or another close or another date's re-close is unfinished.
    """
    for what, text in (("a reason", reason), ("the name of who decides", actor)):
        if not text.strip():
            raise CloseRefused(f"closing {business_date} again needs {what}")
    with connection, connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(hashtext('tieout close ' || %s))", (book,))
        cursor.execute(
            "select reclosing_id, business_date from ops.reclosings where book = %s and state = 'building' for update",
            (book,),
        )
        begun = cursor.fetchone()
        if begun is not None and begun[1] != business_date:
            raise CloseRefused(
                f"re-close {begun[0]} of {begun[1]} is unfinished: run tieout close reopen {begun[1]} until it is "
                "published, or give it up with tieout close abort and the number of one of its closes"
            )
        if begun is None:
            reclosing_id = _open(cursor, book, business_date, reason, actor, as_of)
        else:
            reclosing_id = int(begun[0])
            _take_over(cursor, reclosing_id)
        found = _read(cursor, reclosing_id)
    reach(Failpoint.RECLOSE_OPENED)
    return found


def rebuild(
    server: Server, reclosing: Reclosing, state: Path, tell: Callable[[Close, StepResult], None] = lambda *_: None
) -> None:
    """Build and prove every close of the chain that is not yet, in the order of their dates.

    :param tell: called after each step.
    :raises CloseNotProven: a close is not proven; those after it are not begun and nothing is published.
    :raises CloseRefused: the chain was taken over or given up.
    """
    for member in reclosing.closes:
        # A close of which all was built before this run took over; any other one is built from its first step.
        if member.state == "proven":
            continue
        for step in STEPS:
            tell(member, build(server, member.close_id, member.fencing_token, step, state))
            reach(Failpoint.RECLOSE_STEP_BUILT)
        reach(Failpoint.RECLOSE_CLOSE_BUILT)


def publish_chain(connection: Connection, reclosing: Reclosing) -> int:
    """Book the difference and flip every date's pointer to its new close, in one transaction.

    :returns: journal lines booked now, those that take back included; 0 when the chain was already published.
    :raises psycopg2.Error: the database refused (not proven, overtaken, not balanced); nothing has changed.
    """
    reach(Failpoint.RECLOSE_BEFORE_PUBLISH)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "select ledger.publish_reclosing(%s, %s)", (reclosing.reclosing_id, reclosing.fencing_token)
        )
        row = cursor.fetchone()
    reach(Failpoint.RECLOSE_AFTER_PUBLISH)
    return int(row[0]) if row else 0


def close_again(
    loader: Connection, publisher: Connection, server: Server, state: Path, book: str, business_date: date,
    reason: str, actor: str, tell: Callable[[Close, StepResult], None] = lambda *_: None,
) -> tuple[Reclosing, int]:  # fmt: skip
    """Open, build, prove and publish a chain, alone; or go on with the one that is open.

    :param server: where dbt builds, as the builder.
    :returns: the chain, and the journal lines booked or taken back.
    :raises CloseRefused: as :func:`reopen` and :func:`rebuild` do, or somebody else is at it.
    :raises CloseNotProven: a close is not proven; nothing is published.
    :raises psycopg2.Error: the database refused to publish; nothing has changed.
    """
    with alone(loader, book):
        with loader, loader.cursor() as cursor:
            cursor.execute("select ops.as_of()")
            ((as_of,),) = cursor.fetchall()
        chain = reopen(loader, book, business_date, reason, actor, as_of)
        rebuild(server, chain, state, tell)
        return chain, publish_chain(publisher, chain)


def _open(cursor: Cursor, book: str, business_date: date, reason: str, actor: str, as_of: datetime) -> int:
    cursor.execute(
        "select close_id, business_date, state from ops.closes "
        "where book = %s and state in ('running', 'failed', 'proven') order by close_id limit 1",
        (book,),
    )
    unfinished = cursor.fetchone()
    if unfinished is not None:
        raise CloseRefused(
            f"close {unfinished[0]} of {unfinished[1]} is {unfinished[2]}: run it again until it is published, "
            f"or give it up with: tieout close abort {unfinished[0]}"
        )
    cursor.execute(
        "select business_date, close_id from ops.published where book = %s order by business_date", (book,)
    )
    published: list[tuple[date, int]] = cursor.fetchall()
    if business_date not in dict(published):
        dates = f"{published[0][0]} to {published[-1][0]}" if published else "none"
        raise CloseRefused(f"{business_date} is not a published date of book {book}; published: {dates}")
    locked = locked_period(cursor, book, business_date)
    if locked is not None:
        raise CloseRefused(
            f"{business_date} cannot be closed again: the chain would cross the locked period {locked[0]} to "
            f"{locked[1]} of book {book}. What came late enters the next close with its own value date"
        )
    cursor.execute(
        "insert into ops.reclosings (book, business_date, reason, actor) values (%s, %s, %s, %s) "
        "returning reclosing_id",
        (book, business_date, reason.strip(), actor.strip()),
    )
    ((reclosing_id,),) = cursor.fetchall()
    digest = project_digest()
    parent = max(((day, close_id) for day, close_id in published if day < business_date), default=(None, None))[1]
    for day, former in published:
        if day < business_date:
            continue
        cursor.execute(
            "insert into ops.closes "
            "(book, business_date, generation, parent_close_id, state, rules_digest, as_of, reclosing_id) "
            "select %(book)s, %(day)s, max(generation) + 1, %(parent)s, 'running', %(digest)s, %(as_of)s, %(chain)s "
            "from ops.closes where book = %(book)s and business_date = %(day)s returning close_id",
            {"book": book, "day": day, "parent": parent, "digest": digest, "as_of": as_of, "chain": reclosing_id},
        )
        ((close_id,),) = cursor.fetchall()
        for taken, column in (("ops.close_batches", "batch_id"), ("ops.close_actions", "action_id")):
            cursor.execute(
                f"insert into {taken} (close_id, {column}) select %s, {column} from {taken} where close_id = %s",
                (close_id, former),
            )
        parent = close_id
    last, head = published[-1]
    cursor.execute(
        "insert into ops.close_batches (close_id, batch_id) "
        "select c.close_id, b.batch_id from ops.batches b left join ops.files f on f.file_id = b.file_id "
        "cross join lateral (select close_id from ops.closes c where c.reclosing_id = %(chain)s"
        "  and coalesce(f.content_date, '-infinity') <= %(last)s"
        "  and c.business_date >= coalesce(((b.interval_end - interval '1 microsecond') at time zone"
        "    (select zone from rules.books where book = %(book)s))::date, '-infinity')"
        "  order by c.business_date limit 1) c "
        "where not exists ("
        "  select from ops.close_batches taken where taken.batch_id = b.batch_id"
        "  and taken.close_id in (select close_id from ops.close_chain(%(head)s)))",
        {"chain": reclosing_id, "last": last, "book": book, "head": head},
    )
    late = cursor.rowcount
    cursor.execute(
        "select from ops.closes c join ops.published p using (close_id) "
        "where p.book = %s and p.business_date >= %s and c.rules_digest <> %s limit 1",
        (book, business_date, digest),
    )
    if late == 0 and cursor.fetchone() is None:
        raise CloseRefused(
            f"closing {business_date} again would give what stands: nothing was loaded since the last close "
            f"for dates up to {last}, and rules and code are those it was closed with"
        )
    return int(reclosing_id)


def _take_over(cursor: Cursor, reclosing_id: int) -> None:
    cursor.execute(
        "update ops.reclosings set fencing_token = fencing_token + 1 where reclosing_id = %s returning fencing_token",
        (reclosing_id,),
    )
    ((token,),) = cursor.fetchall()
    # Proven by other rules than today's, or not built to its last step: such a close is built from its first one.
    cursor.execute(
        "update ops.closes c set fencing_token = %(token)s, builder = null, rules_digest = %(digest)s, "
        "state = case when built.whole then 'proven' else 'running' end, "
        "failure = case when built.whole then c.failure end, "
        "opened_at = case when built.whole then c.opened_at else clock_timestamp() end "
        "from (select m.close_id, m.state = 'proven' and bool_and(m.rules_digest = %(digest)s) over () "
        "  and exists (select from ops.build_results b where b.close_id = m.close_id and b.step = %(last)s "
        "    and b.built_at > m.opened_at) as whole "
        "  from ops.closes m where m.reclosing_id = %(chain)s) built "
        "where c.close_id = built.close_id",
        {"token": token, "digest": project_digest(), "last": LAST_STEP, "chain": reclosing_id},
    )


def _read(cursor: Cursor, reclosing_id: int) -> Reclosing:
    cursor.execute(
        "select book, business_date, fencing_token from ops.reclosings where reclosing_id = %s", (reclosing_id,)
    )
    ((book, business_date, token),) = cursor.fetchall()
    cursor.execute(
        "select close_id, book, business_date, coalesce(parent_close_id, 0), fencing_token, state from ops.closes "
        "where reclosing_id = %s order by business_date",
        (reclosing_id,),
    )
    return Reclosing(reclosing_id, book, business_date, token, tuple(Close(*row) for row in cursor.fetchall()))

"""Two people publish a close that cannot be proven: what failed, who signed for it, what is still missing.

A signature is for one line of one close's proof and for exactly what it is off by; a line with two people's signatures
is excused. The close is then built again: if the line still says the same, the close is published with an exception,
an open break until the difference is gone. The database keeps the rules; this says them in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

from psycopg2.errors import RaiseException, UniqueViolation
from psycopg2.extensions import connection as Connection

from tieout.card_numbers import redact
from tieout.close import CloseRefused
from tieout.landing.arrivals import storable


@dataclass(frozen=True)
class FailedLine:
    """One line of a close's proof that does not hold; amounts in minor units, differences are found less expected."""

    check_name: str
    subject: str
    currency: str
    difference_count: int
    difference_minor: int
    is_excusable: bool
    remedy: str | None
    signed_by: tuple[str, ...]
    is_carried: bool
    is_excused: bool

    @property
    def handle(self) -> str:
        """What the line is called by; a line that is off by something else is called something else."""
        named = (self.check_name, self.subject, self.currency, self.difference_count, self.difference_minor)
        return sha256("|".join(map(str, named)).encode()).hexdigest()[:8]

    @property
    def missing(self) -> str:
        """What is still missing, in words."""
        if self.is_carried:
            return "nothing: it stands since the close before"
        if not self.is_excusable:
            return "repair what it names: nobody can sign for it"
        if self.is_excused:
            return "nothing"
        return f"{'a second signature' if self.signed_by else 'two signatures'}; or {self.remedy}"


@dataclass(frozen=True)
class Standing:
    """A close and the lines of its proof that fail."""

    close_id: int
    business_date: date
    state: str
    is_reclosing: bool
    lines: tuple[FailedLine, ...]

    @property
    def is_excused(self) -> bool:
        """Whether nothing stands between the close and its publication but building it again."""
        return all(line.is_excused for line in self.lines)


def standing(connection: Connection, book: str, named: str) -> Standing:
    """The failed lines of a close, by its number or by the business date whose close is unfinished.

    :param named: ``"17"`` or ``"2026-10-28"``.
    :raises CloseRefused: there is no such close.
    """
    with connection, connection.cursor() as cursor:
        try:
            by, value = ("close_id", int(named)) if named.isdigit() else ("business_date", date.fromisoformat(named))
        except ValueError:
            raise CloseRefused(f"name a close by its number or its date, such as 2026-10-28, not {named!r}") from None
        cursor.execute(
            "select close_id, business_date, state, reclosing_id is not null from ops.closes "
            f"where book = %s and {by} = %s "
            "order by state in ('running', 'failed', 'proven') desc, close_id desc limit 1",
            (book, value),
        )
        found = cursor.fetchone()
        if found is None:
            raise CloseRefused(f"book {book} has no close {named}")
        cursor.execute(
            "select check_name, subject, currency, difference_count, difference_minor, is_excusable, remedy, "
            "signed_by, is_carried, is_excused from ops.failed_lines(%s)",
            (found[0],),
        )
        lines = tuple(
            FailedLine(row[0], row[1], row[2], row[3], int(row[4]), row[5], row[6], tuple(row[7]), row[8], row[9])
            for row in cursor.fetchall()
        )
    return Standing(found[0], found[1], found[2], found[3], lines)


def sign(connection: Connection, close: Standing, handles: Sequence[str], reason: str, actor: str) -> Standing:
    """Sign for lines of a close's proof, all of them or none, and commit.

    :param handles: of the lines as they were shown; a line that has changed since is refused.
    :param reason: why it is right to publish in spite of it; kept for good.
    :param actor: who signs.
    :returns: the close as it stands now.
    :raises CloseRefused: a line cannot be signed for, or this person signed already; nothing is written.
    """
    for what, text in (("a reason", reason), ("the name of who signs", actor)):
        if not text.strip():
            raise CloseRefused(f"an exception needs {what}: it is kept for good")
    known = {line.handle: line for line in close.lines}
    with connection, connection.cursor() as cursor:
        for handle in dict.fromkeys(handles):
            if handle not in known:
                raise CloseRefused(
                    f"close {close.close_id} has no failed line {handle}: it has {', '.join(known) or 'none'}"
                )
            line = known[handle]
            try:
                cursor.execute(
                    "insert into ops.close_exceptions (close_id, check_name, subject, currency, difference_count, "
                    "difference_minor, reason, actor) values (%s, %s, %s, %s, %s, %s, %s, %s)",
                    (close.close_id, line.check_name, line.subject, line.currency, line.difference_count,
                     line.difference_minor, redact(storable(reason.strip())), actor.strip()),
                )  # fmt: skip
            except UniqueViolation:
                raise CloseRefused(
                    f"{actor.strip()} has signed for {line.check_name} {line.subject} {line.currency} already: "
                    "it takes a second person"
                ) from None
            except RaiseException as error:
                raise CloseRefused(str(error.diag.message_primary)) from None
        cursor.execute("select book from ops.closes where close_id = %s", (close.close_id,))
        ((book,),) = cursor.fetchall()
    return standing(connection, book, str(close.close_id))

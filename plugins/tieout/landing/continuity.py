"""Statements of a bank account follow each other: each opens where the one before it closed, and no number is left out.

Looked at in the loading transaction, over the versions that stand: a statement that would leave a hole is held until
the hole is filled, in whatever order the files arrive.
"""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple

from psycopg2 import sql

from tieout.landing.register import HeldFile
from tieout.money import to_text
from tieout.sources import Table, raw_identifier

# A page of a statement bears its number behind the statement's own: 7/2.
PAGE = "/([0-9]{1,5})$"
REMEDY = "it is loaded as soon as the statements between them are there"


class _Statement(NamedTuple):
    """A statement in its account's chain; balances in minor units, None where it gives none."""

    file_id: int
    file_name: str
    reference: str | None
    number: int | None
    opening_minor: int | None
    closing_minor: int | None
    closing_date: date

    def __str__(self) -> str:
        name = self.reference or (str(self.number) if self.number is not None else "")
        return f"statement {name} of {self.closing_date}".replace("  ", " ")


def hold_unless_continuous(cursor: Any, table: Table, file_id: int) -> None:
    """Compare each statement of a file with its neighbours in the account's chain.

    An account's first statement is taken as it is, and so is a balance or a number that is not given. Statements of a
    day stand in the order of their numbers, those without in that of their arrival, and a statement's pages in theirs.

    :param table: ``bank_statements``; the file's rows and documents are entered.
    :raises HeldFile: a statement does not open where the one before it closed, does not close where the one after it
        opens, or a number of the same year is left out between them.
    """
    cursor.execute(
        sql.SQL(
            "with placed as ("
            "  select s.*, f.name, substring(s.statement_reference from {page})::integer as page, "
            "    regexp_replace(s.statement_reference, {page}, '') as whole "
            "  from {raw} s join ops.files f using (file_id) "
            "  join ops.documents d on d.file_id = s.file_id and d.document_no = s.statement_no "
            "    and d.kind = 'bank_statement' and d.superseded_by is null "
            "  where (s.bank_account, s.currency) in (select bank_account, currency from {raw} where file_id = {file})"
            "), begun as ("
            "  select placed.*, min(array[file_id, statement_no]) over (partition by bank_account, currency, "
            "    closing_date, sequence_number, whole) as first_seen from placed"
            "), chain as ("
            "  select bank_account, currency, file_id, name, statement_reference, sequence_number, opening_minor, "
            "    closing_minor, closing_date, "
            "    row_number() over (partition by bank_account, currency order by closing_date, "
            "      sequence_number nulls last, first_seen, page nulls first, file_id, statement_no) as place from begun"
            ") select e.bank_account, e.currency, "
            "  e.file_id, e.name, e.statement_reference, e.sequence_number, e.opening_minor, e.closing_minor, "
            "  e.closing_date, l.file_id, l.name, l.statement_reference, l.sequence_number, l.opening_minor, "
            "  l.closing_minor, l.closing_date "
            "from chain e join chain l on (l.bank_account, l.currency, l.place) = (e.bank_account, e.currency, "
            "  e.place + 1) "
            "where {file} in (e.file_id, l.file_id) order by 1, 2, l.place"
        ).format(raw=raw_identifier(table), file=sql.Literal(file_id), page=sql.Literal(PAGE))
    )
    for account, currency, *pair in cursor.fetchall():
        earlier, later = _Statement(*pair[:7]), _Statement(*pair[7:])
        reason = _break(earlier, later, currency)
        if reason is not None:
            raise HeldFile(
                f"{account} in {currency}: {reason} (files {earlier.file_name} and {later.file_name}); {REMEDY}"
            )


def _break(earlier: _Statement, later: _Statement, currency: str) -> str | None:
    if None not in (earlier.closing_minor, later.opening_minor) and earlier.closing_minor != later.opening_minor:
        closed, opened = (to_text(minor or 0, currency) for minor in (earlier.closing_minor, later.opening_minor))
        return f"{later} opens at {opened}, and {earlier} before it closed at {closed}"
    if earlier.number is None or later.number is None or earlier.closing_date.year != later.closing_date.year:
        return None
    if later.number > earlier.number + 1:
        return f"{later} has number {later.number}, and {earlier} before it has {earlier.number}: numbers are left out"
    return None

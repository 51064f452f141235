"""Documents in versions: a settlement batch or a bank statement may be delivered again with other bytes.

The newest delivery stands. Its rows are loaded with the new file; rows of the version before that have no counterpart
in it get a tombstone there: the old row with its amounts set to zero. A row's counterpart has the same ``row_key``; of
several rows under one key, the one that says the same, or else has the same amounts; of the rest, in their order.
All of it is set-based, and done only for documents that came again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2 import sql

from tieout import files
from tieout.batches import Totals, fold_totals, hashed_key, totals_statement
from tieout.files.proof import Document
from tieout.landing.register import BusyError, HeldFile
from tieout.landing.spool import RefusedContent
from tieout.load_notes import note
from tieout.sources import BATCH_ID, FILE_ID, IS_DELETED, Table, raw_identifier

# The columns that say which document of its file a row is part of.
DOCUMENT_COLUMNS = ("document_no", "statement_no")
ROW_KEY = "row_key"
# Where and how a row stood in the file: it may differ between versions of the same row.
PLACES = (FILE_ID, "line_no", *DOCUMENT_COLUMNS, "record")


@dataclass(frozen=True)
class Redelivery:
    """A document that came again: where the version before stands, and its number in the new file."""

    document: Document
    file_id: int
    file_name: str
    number: int


@dataclass(frozen=True)
class Difference:
    """How the documents of one earlier file differ from their new versions, in rows of one table.

    ``doubtful`` is the first document that lost a row of its version before, as (number in the new file, rows now,
    rows before, rows in common): it may be a part of the document rather than a version of it.
    """

    file_id: int
    documents: int
    unchanged: int
    changed: int
    new: int
    vanished: int
    doubtful: tuple[int, int, int, int] | None

    @property
    def is_none(self) -> bool:
        """Whether the documents came again as they were."""
        return not (self.changed or self.new or self.vanished)


def enter(cursor: Any, file_id: int, reading: files.Reading) -> list[Redelivery]:
    """Enter the file's documents, each as the version that stands from now on; one run at a time until its commit.

    :returns: those that another file had brought before.
    :raises RefusedContent: a document stands in the file twice, or was loaded before versions were kept.
    :raises BusyError: a version that stands has later batches: readers of raw would take it for the newer one.
    """
    documents = reading.documents
    if not documents:
        return []
    by_identity = {(document.kind, document.identity): document for document in documents}
    if len(by_identity) < len(documents):
        twice = next(each for each in documents if by_identity[each.kind, each.identity] is not each)
        raise RefusedContent(f"{twice.kind} {twice.identity} stands in this file twice", reading)
    # Two runs must not both find a document new, nor two statements both find the other's place empty.
    cursor.execute("select pg_advisory_xact_lock(hashtextextended('ops.documents', 0))")
    kinds, identities, numbers = map(list, zip(*documents, strict=True))
    cursor.execute(
        "select kind, identity, d.file_id, f.name, d.document_no "
        "from unnest(%s::text[], %s::text[]) as n (kind, identity) join ops.documents d using (kind, identity) "
        "join ops.files f on f.file_id = d.file_id where d.superseded_by is null",
        (kinds, identities),
    )
    found = cursor.fetchall()
    if found:
        _refuse_later(cursor, file_id, {row[2]: row[3] for row in found})
    again = []
    for kind, identity, earlier_id, name, number in found:
        if number is None:
            raise RefusedContent(
                f"{kind} {identity} was loaded from file {earlier_id} ({name}) before versions were kept: "
                "its rows cannot be compared with these",
                reading,
            )
        again.append(Redelivery(by_identity[kind, identity], earlier_id, name, number))
    if again:
        cursor.execute(
            "update ops.documents d set superseded_by = %s from unnest(%s::text[], %s::text[]) as n (kind, identity) "
            "where (d.kind, d.identity) = (n.kind, n.identity) and d.superseded_by is null",
            (file_id, [each.document.kind for each in again], [each.document.identity for each in again]),
        )
    cursor.execute(
        "insert into ops.documents (kind, identity, version, file_id, document_no) "
        "select n.kind, n.identity, coalesce((select max(d.version) from ops.documents d "
        "  where (d.kind, d.identity) = (n.kind, n.identity)), 0) + 1, %s, n.number "
        "from unnest(%s::text[], %s::text[], %s::int[]) as n (kind, identity, number)",
        (file_id, kinds, identities, numbers),
    )
    return again


def _refuse_later(cursor: Any, file_id: int, names: Mapping[int, str]) -> None:
    """Batches are numbered while files are read, documents entered after that: another run may have overtaken this one.

    :param names: of the files whose versions stand, by id.
    """
    cursor.execute(
        "select later.file_id from ops.batches later where later.file_id = any(%s) "
        "and later.batch_id > (select min(ours.batch_id) from ops.batches ours where ours.file_id = %s) limit 1",
        (list(names), file_id),
    )
    overtaken = cursor.fetchone()
    if overtaken is not None:
        raise BusyError(
            f"another run loaded documents of it from file {overtaken[0]} ({names[overtaken[0]]}) while this one was "
            "being read: the next run loads it as their newer version"
        )


class Comparison:
    """The documents of a new file that came again, against the versions that stood before.

    :param batches: the new file's batches by table name, rows copied.
    :param open_one: opens a batch of the new file for a table that it brings no row of.
    """

    def __init__(
        self,
        cursor: Any,
        file_id: int,
        again: Sequence[Redelivery],
        batches: dict[str, int],
        open_one: Callable[[Table], int],
    ) -> None:
        self._cursor = cursor
        self._file_id = file_id
        self._again = again
        self._batches = batches
        self._open_one = open_one
        self._earlier_names = {each.file_id: each.file_name for each in again}

    def supersede(
        self, tables: Mapping[str, Table], reading: files.Reading, name: str, forced: bool, as_of: datetime
    ) -> None:
        """Write tombstones for rows that are gone, and a note for each earlier file whose documents came otherwise.

        :param name: of the new file.
        :param forced: somebody has decided that the documents are right.
        :raises HeldFile: a document lacks a row that it had before, and the file does not prove itself.
        """
        # A batch that was just copied has no statistics: the planner would take it for a handful of rows.
        self._cursor.execute("set local enable_nestloop = off; set local work_mem = '64MB'")
        for table in tables.values():
            column = next((each for each in DOCUMENT_COLUMNS if each in table.column_names), None)
            if column is None:
                differences = self._changed_values(table)
            else:
                self._tell_apart(table, column)
                differences = self._compare(table, column)
                for each in differences:
                    if each.doubtful is not None and reading.balance != "ok" and not forced:
                        raise HeldFile(self._doubt(each))
                if any(each.vanished for each in differences):
                    self._write_tombstones(table, column, sum(each.vanished for each in differences))
            for each in differences:
                if not each.is_none:
                    self._note(table, each, name, as_of)
        self._cursor.execute("set local enable_nestloop to default; set local work_mem to default")

    def tombstones(self, table: Table) -> Totals:
        """What the tombstones of the new file weigh in raw."""
        condition = sql.SQL("{} = {} and {}").format(
            sql.Identifier(BATCH_ID), sql.Literal(self._batches[table.name]), sql.Identifier(IS_DELETED)
        )
        self._cursor.execute(totals_statement(table, raw_identifier(table), condition))
        return fold_totals(table, self._cursor.fetchall())

    def _pairs(self, table: Table, column: str, before: Iterable[str], now: Iterable[str]) -> sql.Composed:
        """Common tables ``redelivered``, ``before`` and ``now``: rows of both sides, numbered within their key.

        ``before`` and ``now`` name the columns wanted of each: records are long, and would be sorted along.
        """

        def wanted(names: Iterable[str]) -> sql.Composed:
            return sql.SQL(", ").join(sql.Identifier("t", name) for name in dict.fromkeys((column, ROW_KEY, *names)))

        return sql.SQL(
            # The earlier batches are named by number, too: raw is asked by its index, and not read whole.
            "with redelivered as materialized (select r.file_id, b.batch_id, r.old_no, r.new_no "
            "  from unnest(%(files)s::bigint[], %(old)s::int[], %(new)s::int[]) as r (file_id, old_no, new_no) "
            "  left join ops.batches b on b.file_id = r.file_id and b.table_name = {name}), "
            "before as (select {wanted_before}, r.batch_id, r.new_no, coalesce(o.occurrence_no, "
            "  row_number() over (partition by r.new_no, t.{key} order by t.{line})) as occurrence "
            "  from {raw} t join redelivered r on r.batch_id = t.batch_id and r.old_no = t.{column} "
            "  left join ops.repeated_rows o on o.batch_id = t.batch_id and o.row_no = t.{line} "
            "  where t.batch_id = any(%(earlier)s::bigint[]) and not t.{deleted}), "
            "now as (select {wanted_now}, coalesce(o.occurrence_no, "
            "  row_number() over (partition by t.{column}, t.{key} order by t.{line})) as occurrence "
            "  from {raw} t join redelivered r on r.new_no = t.{column} "
            "  left join ops.repeated_rows o on o.batch_id = t.batch_id and o.row_no = t.{line} "
            "  where t.batch_id = %(batch)s and not t.{deleted}) "
        ).format(
            name=sql.Literal(table.name),
            wanted_before=wanted(before),
            wanted_now=wanted(now),
            raw=raw_identifier(table),
            key=sql.Identifier(ROW_KEY),
            line=sql.Identifier(hashed_key(table)[0]),
            column=sql.Identifier(column),
            deleted=sql.Identifier(IS_DELETED),
        )

    def _tell_apart(self, table: Table, column: str) -> None:
        """Say of each row that shares its key with others which row of the version before it is, if any.

        A row that has no counterpart takes the first place that none has.
        """
        line = hashed_key(table)[0]
        values = [name for name in table.column_names if name not in PLACES]
        alike = [values, list(table.amounts), []]
        steps = [
            sql.SQL(
                "repeated as (select number, {key} from (select new_no as number, {key}, occurrence from before "
                "  union all select {column}, {key}, occurrence from now) as rows "
                "  group by number, {key} having max(occurrence) > 1), "
                "was_0 as (select b.new_no as number, b.{key}, b.occurrence{prints} from before b "
                "  join repeated r on (r.number, r.{key}) = (b.new_no, b.{key}) "
                "  join {raw} t on (t.{batch_id}, t.{line}) = (b.{batch_id}, b.{line})), "
                "came_0 as (select n.{column} as number, n.{key}, n.{line}{prints} from now n "
                "  join repeated r on (r.number, r.{key}) = (n.{column}, n.{key}) "
                "  join {raw} t on t.{batch_id} = %(batch)s and t.{line} = n.{line})"
            ).format(
                key=sql.Identifier(ROW_KEY),
                column=sql.Identifier(column),
                line=sql.Identifier(line),
                batch_id=sql.Identifier(BATCH_ID),
                raw=raw_identifier(table),
                prints=_prints("t", alike),
            )
        ]
        steps += [
            sql.SQL(
                "pairs_{i} as (select number, {key}, w.occurrence, c.{line} from (select *, row_number() over "
                "    (partition by number, {key}, print_{i} order by occurrence) as twin from was_{h}) w "
                "  join (select *, row_number() over (partition by number, {key}, print_{i} order by {line}) as twin "
                "    from came_{h}) c using (number, {key}, print_{i}, twin)), "
                "was_{i} as (select * from was_{h} w where not exists (select from pairs_{i} p "
                "  where (p.number, p.{key}, p.occurrence) = (w.number, w.{key}, w.occurrence))), "
                "came_{i} as (select * from came_{h} c where not exists (select from pairs_{i} p "
                "  where (p.number, p.{line}) = (c.number, c.{line})))"
            ).format(
                i=sql.SQL(str(step)), h=sql.SQL(str(step - 1)), key=sql.Identifier(ROW_KEY), line=sql.Identifier(line)
            )
            for step in range(1, len(alike) + 1)
        ]  # fmt: skip
        self._cursor.execute(
            self._pairs(table, column, [line], [line])
            + sql.SQL(", ")
            + sql.SQL(", ").join(steps)
            + sql.SQL(
                ", new as (select number, {key}, {line}, "
                "    row_number() over (partition by number, {key} order by {line}) as place from came_{last}), "
                "asked as (select number, {key}, max(new.place) + coalesce(max(w.occurrence), 0) as enough "
                "  from new left join was_0 w using (number, {key}) group by number, {key}), "
                "free as (select number, {key}, slots.occurrence, "
                "    row_number() over (partition by number, {key} order by slots.occurrence) as place "
                "  from asked cross join lateral generate_series(1, asked.enough) as slots (occurrence) "
                "  where not exists (select from was_0 w where (w.number, w.{key}, w.occurrence) "
                "    = (asked.number, asked.{key}, slots.occurrence))), "
                "told as ({paired} union all "
                "  select {line}, occurrence from new join free using (number, {key}, place)) "
                "insert into ops.repeated_rows (batch_id, row_no, occurrence_no) "
                "select %(batch)s, {line}, occurrence from told"
            ).format(
                key=sql.Identifier(ROW_KEY),
                line=sql.Identifier(line),
                last=sql.SQL(str(len(alike))),
                paired=sql.SQL(" union all ").join(
                    sql.SQL("select {}, occurrence from {}").format(
                        sql.Identifier(line), sql.Identifier(f"pairs_{step}")
                    )
                    for step in range(1, len(alike) + 1)
                ),
            ),
            self._asked(table),
        )

    def _asked(self, table: Table) -> dict[str, Any]:
        files = [each.file_id for each in self._again]
        self._cursor.execute(
            "select batch_id from ops.batches where file_id = any(%s) and table_name = %s", (files, table.name)
        )
        return {
            "files": files,
            "earlier": [batch_id for (batch_id,) in self._cursor.fetchall()],
            "old": [each.number for each in self._again],
            "new": [each.document.number for each in self._again],
            "batch": self._batches.get(table.name),
        }

    def _compare(self, table: Table, column: str) -> list[Difference]:
        values = [name for name in table.column_names if name not in PLACES]
        self._cursor.execute(
            self._pairs(table, column, values, values)
            + sql.SQL(
                ", matched as (select coalesce(b.new_no, n.{column}) as number, b.{key} is not null as was, "
                "  n.{key} is not null as is_there, ({old}) is distinct from ({new}) as differs "
                "  from before b full join now n "
                "  on (n.{column}, n.{key}, n.occurrence) = (b.new_no, b.{key}, b.occurrence)), "
                "documents as (select number, count(*) filter (where was) as before, "
                "  count(*) filter (where is_there) as now, count(*) filter (where was and not is_there) as vanished, "
                "  count(*) filter (where was and is_there and differs) as changed from matched group by number) "
                "select r.file_id, count(*), sum(d.before - d.vanished - d.changed)::bigint, sum(d.changed)::bigint, "
                "  sum(d.now - d.before + d.vanished)::bigint, sum(d.vanished)::bigint, "
                "  (array_agg(array[d.number, d.now, d.before, d.before - d.vanished] order by d.number) "
                "    filter (where d.vanished > 0))[1:1] "
                "from documents d join redelivered r on r.new_no = d.number group by r.file_id order by r.file_id"
            ).format(
                column=sql.Identifier(column),
                key=sql.Identifier(ROW_KEY),
                old=sql.SQL(", ").join(sql.Identifier("b", name) for name in values),
                new=sql.SQL(", ").join(sql.Identifier("n", name) for name in values),
            ),
            self._asked(table),
        )
        return [
            Difference(file_id, count, unchanged, changed, new, vanished, tuple(doubtful[0]) if doubtful else None)
            for file_id, count, unchanged, changed, new, vanished, doubtful in self._cursor.fetchall()
        ]

    def _changed_values(self, table: Table) -> list[Difference]:
        """Of a table that knows no documents, such as rates: only what has another value by its key counts."""
        keys = hashed_key(table)
        values = [name for name in table.column_names if name not in (*PLACES, *keys)]
        self._cursor.execute(
            sql.SQL(
                "select o.file_id, count(*) filter (where not ({differs})), count(*) filter (where {differs}) "
                "from {raw} n join {raw} o on {same} join ops.batches b on b.batch_id = o.batch_id "
                "where n.batch_id = %(batch)s and b.file_id = any(%(files)s) and b.table_name = {name} "
                "group by o.file_id order by o.file_id"
            ).format(
                raw=raw_identifier(table),
                name=sql.Literal(table.name),
                same=sql.SQL(" and ").join(
                    sql.SQL("{} = {}").format(sql.Identifier("o", key), sql.Identifier("n", key)) for key in keys
                ),
                differs=sql.SQL("({}) is distinct from ({})").format(
                    sql.SQL(", ").join(sql.Identifier("o", value) for value in values),
                    sql.SQL(", ").join(sql.Identifier("n", value) for value in values),
                ),
            ),
            self._asked(table),
        )
        return [
            Difference(file_id, 1, unchanged, changed, 0, 0, None)
            for file_id, unchanged, changed in self._cursor.fetchall()
        ]

    def _write_tombstones(self, table: Table, column: str, expected: int) -> None:
        if table.name not in self._batches:
            self._batches[table.name] = self._open_one(table)
        line = hashed_key(table)[0]
        # One count below zero for all: lines of two earlier files may have the same number.
        line_value = sql.SQL("-row_number() over (order by b.batch_id, b.{})").format(sql.Identifier(line))
        special: dict[str, sql.Composable] = {
            **dict.fromkeys(table.amounts, sql.SQL("0")),
            FILE_ID: sql.Literal(self._file_id),
            column: sql.Identifier("b", "new_no"),
            line: sql.Identifier("b", "gone_no"),
        }
        self._cursor.execute(
            self._pairs(table, column, table.column_names, ())
            + sql.SQL(
                ", gone as materialized (select b.*, {line_value} as gone_no from before b "
                "  where not exists (select from now n "
                "    where (n.{column}, n.{key}, n.occurrence) = (b.new_no, b.{key}, b.occurrence))), "
                "told as (insert into ops.repeated_rows (batch_id, row_no, occurrence_no) "
                "  select {batch}, b.gone_no, b.occurrence from gone b where exists (select from before o "
                "    where (o.new_no, o.{key}) = (b.new_no, b.{key}) and o.occurrence > 1)) "
                "insert into {raw} ({batch_id}, {deleted}, {names}) select {batch}, true, {values} from gone b"
            ).format(
                raw=raw_identifier(table),
                batch_id=sql.Identifier(BATCH_ID),
                deleted=sql.Identifier(IS_DELETED),
                line_value=line_value,
                names=sql.SQL(", ").join(map(sql.Identifier, table.column_names)),
                batch=sql.Literal(self._batches[table.name]),
                values=sql.SQL(", ").join(
                    special.get(name, sql.Identifier("b", name)) for name in table.column_names
                ),
                column=sql.Identifier(column),
                key=sql.Identifier(ROW_KEY),
            ),
            self._asked(table),
        )
        if self._cursor.rowcount != expected:
            raise AssertionError(f"{expected} rows of {table.name} are gone, {self._cursor.rowcount} were marked")

    def _doubt(self, difference: Difference) -> str:
        assert difference.doubtful is not None
        number, now, before, common = difference.doubtful
        document = next(each.document for each in self._again if each.document.number == number)
        earlier = self._earlier_names[difference.file_id]
        return (
            f"{document.kind} {document.identity} has {now} lines here and {before} in file {difference.file_id} "
            f"({earlier}), {common} of them in both, and nothing in the file proves that the others are gone: ask the "
            "sender, then release it"
        )

    def _note(self, table: Table, difference: Difference, name: str, as_of: datetime) -> None:
        earlier = self._earlier_names[difference.file_id]
        note(
            self._cursor,
            source=table.source,
            table_name=table.name,
            kind="file_superseded",
            severity="warn",
            message=(
                f"{name} takes the place of {difference.documents} document(s) of {earlier}: {difference.unchanged} "
                f"lines as before, {difference.changed} changed, {difference.new} new, {difference.vanished} gone; "
                "closes after this one take the difference up"
            ),
            as_of=as_of,
            batch_id=self._batches.get(table.name),
            file_id=self._file_id,
            observed={
                "file": name, "superseded_file_id": difference.file_id, "superseded_file": earlier,
                "documents": difference.documents, "unchanged": difference.unchanged, "changed": difference.changed,
                "new": difference.new, "vanished": difference.vanished,
            },
        )  # fmt: skip


def _prints(relation: str, alike: Sequence[Sequence[str]]) -> sql.Composed:
    """Columns ``print_1`` and so on: digests of what two rows must have in common to be one, strictest first."""
    return sql.SQL("").join(
        sql.SQL(", md5(row({})::text) as {}").format(
            sql.SQL(", ").join(sql.Identifier(relation, name) for name in names), sql.Identifier(f"print_{number}")
        )
        for number, names in enumerate(alike, 1)
    )

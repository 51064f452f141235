"""The registry of source tables, read from the dbt source YAML: declared there once, read by all.

Only sources with ``config.meta.kind`` (snapshot or file) are ours to load; others, such as ``ops``
or ``ledger``, are declared for dbt's lineage and are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

KINDS = ("snapshot", "file")
# append: rows never change once written; it differs from incremental in what a change means, not in the reading.
MODES = ("incremental", "append", "full")
CLASSIFICATIONS = ("public", "internal", "confidential", "personal")
INTEGER_TYPES = ("bigint", "integer", "smallint")
# Types whose values read alike in Python and in SQL: the key hash of a file's rows is taken in both.
FILE_KEY_TYPES = (*INTEGER_TYPES, "text", "date")
RAW_SCHEMA = "raw"
BATCH_ID = "batch_id"
# True on a row that says its key is gone at the source, or its line from a new version of the file.
IS_DELETED = "is_deleted"
FILE_ID = "file_id"
# What a line of a file is part of, and whose it is.
DOCUMENT_NO, PROCESSOR = "document_no", "processor"
# A deletion that leaves no sign at the source stands in the books for so long at most.
SWEEP_EVERY_DAYS = 7.0
HOURS = {"minute": 1 / 60, "hour": 1.0, "day": 24.0}

# A declared type becomes part of a CREATE TABLE, where it cannot be a parameter: only what looks like a type passes.
TYPE_PATTERN = re.compile(r"[a-z][a-z0-9_ ]*(\(\d{1,4}(, ?\d{1,4})?\))?(\[\])?")
NAME_PATTERN = re.compile(r"[a-z_][a-z0-9_]{0,62}")
DECLARES_SOURCES = re.compile(r"^sources:", re.MULTILINE)

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RegistryError(ValueError):
    """The source YAML, or the raw tables made from it, cannot be used; the message names file, table and remedy."""


@dataclass(frozen=True)
class Column:
    """One declared column: its name, its Postgres type as declared, and whether it may be null.

    ``free_text`` marks text that people type, where a card number may hide.
    """

    name: str
    data_type: str
    not_null: bool
    free_text: bool = False


@dataclass(frozen=True)
class Table:
    """One declared source table and the raw table its rows land in.

    ``amounts`` maps each amount column (integer minor units) to the column that holds its ISO currency.
    The SLAs are hours: since the last load (warn, error) and since the newest content; None where none is declared.
    ``connection``, ``source_schema`` and ``mode`` are None for files. ``version_key`` tells which rows are versions
    of the same thing: the key, unless a table of files says otherwise. ``lines_with_ids`` are the processors whose
    lines have an id of their own and are versions of one another in whatever document; those of all others are so
    within their document, which leads to them. It is None where every line is found by its version key.
    ``immutable`` are the columns that never change for a key: if one does, the key was used again. All of them are in
    a table of mode append. A snapshot table is compared whole after so many days at the latest; a run that finds more
    than ``deletions_max`` rows gone refuses the table, None for a share of its rows.
    """

    source: str
    name: str
    raw_table: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    version_key: tuple[str, ...]
    immutable: tuple[str, ...]
    cursor: str
    mode: str | None
    amounts: dict[str, str]
    owner: str
    classification: str
    kind: str
    connection: str | None
    source_schema: str | None
    load_warn_hours: float | None
    load_error_hours: float | None
    content_sla_hours: float | None
    sweep_every_days: float = SWEEP_EVERY_DAYS
    deletions_max: int | None = None
    lines_with_ids: tuple[str, ...] | None = None

    def __hash__(self) -> int:
        return hash((self.source, self.name))

    @property
    def column_names(self) -> tuple[str, ...]:
        """Declared columns in order, without the raw table's ``batch_id``."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The declared column of that name.

        :raises KeyError: it is not declared.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True)
class Source:
    """One source system (kind snapshot) or the landing (kind file), and its tables in the order declared."""

    name: str
    kind: str
    owner: str
    connection: str | None
    schema: str | None
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Registry:
    """All that is loaded."""

    sources: tuple[Source, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every table of every source, in the order declared."""
        return tuple(table for source in self.sources for table in source.tables)

    def source(self, name: str) -> Source:
        """The source of that name.

        :raises RegistryError: it is not declared.
        """
        for source in self.sources:
            if source.name == name:
                return source
        raise RegistryError(f"source {name!r} is not declared; declared are {[source.name for source in self.sources]}")

    def names(self, source_name: str, asked: Any, parameter: str) -> tuple[str, ...]:
        """Names of a source's tables among those a person asked for, in the order declared; none for an empty value.

        What is asked for may be any source's of the same kind: ``table``, or ``source.table`` where only one is meant.

        :raises RegistryError: it is no list of names, or no source has one of them.
        """
        source = self.source(source_name)
        alike = [one for one in self.sources if one.kind == source.kind]
        declared = [f"{one.name}.{table.name}" for one in alike for table in one.tables]
        listed = asked is None or (isinstance(asked, Collection) and not isinstance(asked, str))
        if not listed or not all(isinstance(name, str) for name in asked or ()):
            raise RegistryError(f"{parameter} must be a list of names such as {declared[:2]}, got {str(asked)[:40]!r}")
        unknown = sorted(set(asked or ()).difference(declared, (name.partition(".")[2] for name in declared)))
        if unknown:
            raise RegistryError(
                f"{parameter}: no source has a table {', '.join(repr(name[:40]) for name in unknown)}; "
                f"declared are {', '.join(declared)}"
            )
        own = (table.name for table in source.tables)
        return tuple(name for name in own if {name, f"{source_name}.{name}"} & set(asked or ()))

    def table(self, raw_table: str) -> Table:
        """The table whose rows land in ``raw.<raw_table>``.

        :raises RegistryError: none does.
        """
        for table in self.tables:
            if table.raw_table == raw_table:
                return table
        raise RegistryError(f"no declared table lands in raw.{raw_table}: declare it in the dbt source YAML")


def default_project() -> Path:
    """The dbt project's folder: ``TIEOUT_DBT_PROJECT``, else ``dbt_project`` beside ``plugins``."""
    configured = os.environ.get("TIEOUT_DBT_PROJECT")
    return Path(configured) if configured else Path(__file__).resolve().parents[2] / "dbt_project"


def load_registry(project: Path | None = None) -> Registry:
    """Read every source with ``meta.kind`` from the YAML files below ``<project>/models``.

    :param project: the dbt project's folder, by default :func:`default_project`.
    :raises RegistryError: nothing is declared, or a declaration is incomplete or contradicts itself.
    """
    models = (project or default_project()) / "models"
    if not models.is_dir():
        raise RegistryError(f"{models} is no folder: point TIEOUT_DBT_PROJECT at the dbt project")
    sources: list[Source] = []
    for path in sorted([*models.rglob("*.yml"), *models.rglob("*.yaml")]):
        text = path.read_text(encoding="utf-8")
        if DECLARES_SOURCES.search(text):
            sources.extend(_read_file(path, text))
    registry = Registry(tuple(sources))
    if not registry.tables:
        raise RegistryError(f"no source below {models} declares meta.kind ({' or '.join(KINDS)}): nothing to load")
    _refuse_twins(registry)
    return registry


def ensure_raw_tables(connection: Connection, registry: Registry) -> list[str]:
    """Create ``raw.<table>`` for every declared table, and add columns declared since; commit.

    A table gets ``batch_id`` and ``is_deleted`` first, the declared columns, and indexes on ``(batch_id)`` and
    ``(version_key..., batch_id)``, or a hash index on the digest that is the version key of a table of files, of the
    lines that no document leads to. Running it again changes nothing: a table keeps the indexes that it was made with.
    An added column is nullable: older batches lack it.

    :returns: what was done, one line each.
    :raises RegistryError: a raw column is no longer declared, or with another type; nothing is changed then.
    """
    done: list[str] = []
    with connection, connection.cursor() as cursor:
        for table in registry.tables:
            cursor.execute(
                "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a "
                "where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped",
                (f"{RAW_SCHEMA}.{table.raw_table}",),
            )
            present: dict[str, str] = dict(cursor.fetchall())
            statements = _alterations(cursor, table, present) if present else _creation(table)
            for said, statement in statements:
                cursor.execute(statement)
                done.append(said)
    return done


def canonical_type(cursor: Any, data_type: str) -> str | None:
    """Postgres's own spelling of a declared type (``timestamptz`` is ``timestamp with time zone``), None if unknown."""
    cursor.execute("select format_type(to_regtype(%s), null)", (data_type,))
    base: str | None = cursor.fetchone()[0]
    modifier = re.search(r"\(.*?\)", data_type)
    if base is None or modifier is None:
        return base
    # The modifier stands before "with time zone" in timestamp(3) with time zone, at the end elsewhere.
    head, _, tail = base.partition(" with")
    return f"{head}{modifier.group().replace(' ', '')}{f' with{tail}' if tail else ''}"


def raw_identifier(table: Table) -> sql.Identifier:
    """``raw.<table>``, quoted."""
    return sql.Identifier(RAW_SCHEMA, table.raw_table)


def _creation(table: Table) -> Iterator[tuple[str, sql.Composable]]:
    columns = [
        sql.SQL("{} bigint not null").format(sql.Identifier(BATCH_ID)),
        sql.SQL("{} boolean not null default false").format(sql.Identifier(IS_DELETED)),
    ]
    for column in table.columns:
        rest = sql.SQL(f" {column.data_type}{' not null' if column.not_null else ''}")
        columns.append(sql.Identifier(column.name) + rest)
    target = raw_identifier(table)
    yield (
        f"created {RAW_SCHEMA}.{table.raw_table}",
        sql.SQL("create table {} ({})").format(target, sql.SQL(", ").join(columns)),
    )
    # Of digests, which come in no order, a hash index takes half of what a tree costs, which is more than the COPY.
    first, *others = table.version_key
    hashed = table.kind == "file" and not others and table.column(first).data_type == "text"
    versions = ("hash", table.version_key) if hashed else ("btree", (*table.version_key, BATCH_ID))
    for (method, names), condition in ((("btree", (BATCH_ID,)), None), (versions, _without_document(table))):
        keys = sql.SQL(", ").join(map(sql.Identifier, names))
        only = sql.SQL(" where {}").format(condition) if condition else sql.SQL("")
        yield (
            f"indexed {RAW_SCHEMA}.{table.raw_table}",
            sql.SQL("create index on {} using {} ({}){}").format(target, sql.SQL(method), keys, only),
        )


def _without_document(table: Table) -> sql.Composable | None:
    """Which rows no document leads to the other versions of; the dbt macro ``without_document`` asks by the same."""
    if table.lines_with_ids is None:
        return None
    alone = sql.SQL("{} is null").format(sql.Identifier(DOCUMENT_NO))
    if not table.lines_with_ids:
        return alone
    processors = sql.SQL(", ").join(map(sql.Literal, table.lines_with_ids))
    return sql.SQL("{} or {} in ({})").format(alone, sql.Identifier(PROCESSOR), processors)


def _alterations(cursor: Any, table: Table, present: dict[str, str]) -> list[tuple[str, sql.Composable]]:
    where = f"{RAW_SCHEMA}.{table.raw_table}"
    for name in present.keys() - {BATCH_ID, IS_DELETED, *table.column_names}:
        raise RegistryError(
            f"{where} has a column {name} that {table.source}.{table.name} no longer declares: raw never loses data, "
            "so declare it again (nullable), or drop it from the raw table by a migration"
        )
    additions: list[tuple[str, sql.Composable]] = []
    if IS_DELETED not in present:
        statement = sql.SQL("alter table {} add column {} boolean not null default false").format(
            raw_identifier(table), sql.Identifier(IS_DELETED)
        )
        additions.append((f"added {where}.{IS_DELETED}", statement))
    for column in table.columns:
        if column.name not in present:
            statement = sql.SQL("alter table {} add column {} {}").format(
                raw_identifier(table), sql.Identifier(column.name), sql.SQL(column.data_type)
            )
            additions.append((f"added {where}.{column.name}", statement))
            continue
        expected = canonical_type(cursor, column.data_type)
        if present[column.name] != expected:
            raise RegistryError(
                f"{where}.{column.name} is {present[column.name]}, but {table.source}.{table.name} declares "
                f"{column.data_type}: restore the declaration, or retype the raw column by a migration"
            )
    return additions


def _read_file(path: Path, text: str) -> Iterator[Source]:
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RegistryError(f"{path} is not YAML: {error}") from error
    for entry in document["sources"] or []:
        config = entry.get("config") or {}
        meta = {**(entry.get("meta") or {}), **(config.get("meta") or {})}
        if "kind" not in meta:
            continue
        name = entry.get("name")
        where = f"{path}: source {name}"
        kind = _one_of(meta["kind"], KINDS, f"{where}: meta.kind")
        if entry.get("schema", name) != RAW_SCHEMA:
            raise RegistryError(f"{where}: schema must be {RAW_SCHEMA}, where loaded rows land")
        if kind == "snapshot":
            for needed in ("connection", "schema"):
                if not meta.get(needed):
                    raise RegistryError(f"{where}: meta.{needed} is missing: it says where the snapshot is taken")
        inherited = {**meta, "freshness": _pick(entry, "freshness")}
        tables = tuple(
            _read_table(f"{path}: table {name}.{table.get('name')}", str(name), table, inherited)
            for table in entry.get("tables") or []
        )
        connection, schema = (meta["connection"], meta["schema"]) if kind == "snapshot" else (None, None)
        yield Source(str(name), kind, str(meta.get("owner", "")), connection, schema, tables)


def _read_table(where: str, source: str, entry: dict[str, Any], inherited: dict[str, Any]) -> Table:
    own = {**(entry.get("meta") or {}), **((entry.get("config") or {}).get("meta") or {})}
    meta = {**inherited, **own}
    for needed in ("key", "cursor", "owner", "classification", *(["mode"] if meta["kind"] == "snapshot" else [])):
        if not meta.get(needed):
            raise RegistryError(f"{where}: meta.{needed} is missing")
    columns = tuple(_read_column(where, column) for column in entry.get("columns") or [])
    if not columns:
        raise RegistryError(f"{where}: declares no columns")
    by_name = {column.name: column for column in columns}
    if len(by_name) < len(columns):
        raise RegistryError(f"{where}: declares a column twice")
    for name in (BATCH_ID, IS_DELETED):
        if name in by_name:
            raise RegistryError(f"{where}: {name} is added to every raw table and may not be declared")
    key, amounts = tuple(meta["key"]), dict(meta.get("amounts") or {})
    version_key = tuple(meta.get("version_key") or key)
    immutable = tuple(by_name) if meta.get("mode") == "append" else tuple(meta.get("immutable") or ())
    with_ids = None if meta.get("lines_with_ids") is None else tuple(map(str, meta["lines_with_ids"]))
    asked = () if with_ids is None else (FILE_ID, DOCUMENT_NO, PROCESSOR)
    for name in (*key, *version_key, *immutable, meta["cursor"], *amounts, *amounts.values(), *asked):
        if name not in by_name:
            raise RegistryError(f"{where}: meta names {name}, which is no declared column")
    for name in (*key, *version_key):
        if not by_name[name].not_null:
            raise RegistryError(f"{where}: {name} is part of the key, so it needs the constraint not_null")
        if by_name[name].free_text:
            raise RegistryError(f"{where}: {name} is part of the key, so it cannot be free_text, which may be masked")
    for name in amounts:
        if by_name[name].data_type not in INTEGER_TYPES:
            raise RegistryError(f"{where}: {name} is an amount in minor units and must be bigint")
    if meta["kind"] == "file" and columns[0].name != FILE_ID:
        raise RegistryError(f"{where}: the first column of a table loaded from files is {FILE_ID}")
    for name in key:
        if meta["kind"] == "file" and by_name[name].data_type not in FILE_KEY_TYPES:
            raise RegistryError(
                f"{where}: {name} is part of a file's key and must be one of {', '.join(FILE_KEY_TYPES)}"
            )
    freshness = _pick(entry, "freshness", inherited["freshness"]) or {}
    raw_table = entry.get("identifier") or entry.get("name")
    if not NAME_PATTERN.fullmatch(str(raw_table)):
        raise RegistryError(f"{where}: {raw_table!r} cannot name a raw table: use a-z, 0-9 and _")
    snapshot = meta["kind"] == "snapshot"
    content_sla, deletions_max = meta.get("content_sla_hours"), meta.get("deletions_max")
    return Table(
        source=source,
        name=str(entry["name"]),
        raw_table=str(raw_table),
        description=str(entry.get("description", "")),
        columns=columns,
        key=key,
        version_key=version_key,
        immutable=immutable,
        cursor=str(meta["cursor"]),
        mode=_one_of(meta["mode"], MODES, f"{where}: meta.mode") if snapshot else None,
        amounts=amounts,
        owner=str(meta["owner"]),
        classification=_one_of(meta["classification"], CLASSIFICATIONS, f"{where}: meta.classification"),
        kind=str(meta["kind"]),
        connection=str(meta["connection"]) if snapshot else None,
        source_schema=str(meta["schema"]) if snapshot else None,
        load_warn_hours=_hours(where, freshness.get("warn_after")),
        load_error_hours=_hours(where, freshness.get("error_after")),
        content_sla_hours=None if content_sla is None else float(content_sla),
        sweep_every_days=_number(meta.get("sweep_every_days", SWEEP_EVERY_DAYS), f"{where}: meta.sweep_every_days"),
        deletions_max=None if deletions_max is None else int(_number(deletions_max, f"{where}: meta.deletions_max")),
        lines_with_ids=with_ids,
    )


def _read_column(where: str, entry: dict[str, Any]) -> Column:
    name, data_type = entry.get("name"), entry.get("data_type")
    if not name or not NAME_PATTERN.fullmatch(str(name)):
        raise RegistryError(f"{where}: {name!r} cannot name a column: use a-z, 0-9 and _")
    if not data_type:
        raise RegistryError(f"{where}: column {name} has no data_type")
    if not TYPE_PATTERN.fullmatch(str(data_type).lower()):
        raise RegistryError(f"{where}: column {name}: {data_type!r} is not the name of a Postgres type")
    constraints = {constraint.get("type") for constraint in entry.get("constraints") or []}
    meta = {**(entry.get("meta") or {}), **((entry.get("config") or {}).get("meta") or {})}
    free_text = bool(meta.get("free_text"))
    if free_text and str(data_type).lower() != "text":
        raise RegistryError(f"{where}: column {name} is free_text, so it must be text, not {data_type}")
    return Column(str(name), str(data_type).lower(), "not_null" in constraints, free_text)


def _pick(entry: dict[str, Any], setting: str, default: Any = None) -> Any:
    """A dbt setting, which may stand under ``config`` or, as dbt used to have it, beside it."""
    config = entry.get("config") or {}
    return config[setting] if setting in config else entry.get(setting, default)


def _hours(where: str, period: dict[str, Any] | None) -> float | None:
    if not period:
        return None
    unit = _one_of(period.get("period"), tuple(HOURS), f"{where}: freshness period")
    return float(period["count"]) * HOURS[unit]


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise RegistryError(f"{where} is {value!r}, must be a number, 0 or more")
    return float(value)


def _one_of(value: Any, allowed: tuple[str, ...], where: str) -> str:
    if value not in allowed:
        raise RegistryError(f"{where} is {value!r}, must be one of {', '.join(allowed)}")
    return str(value)


def _refuse_twins(registry: Registry) -> None:
    seen: dict[str, Table] = {}
    for table in registry.tables:
        twin = seen.setdefault(table.raw_table, table)
        if twin is not table:
            raise RegistryError(
                f"{twin.source}.{twin.name} and {table.source}.{table.name} both land in raw.{table.raw_table}: "
                "give one of them an identifier"
            )

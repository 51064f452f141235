"""A new source: from a Postgres schema to the dbt source YAML that declares it, for a person to review.

The file is written whole or not at all, and only after the registry has read it together with the project's others.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import yaml

from tieout.extraction.catalogue import CatalogueError, Relation, read_catalogue, readable
from tieout.extraction.source import SourceAddress, connect_source
from tieout.extraction.suggestions import LeftOut, Suggestion, suggest
from tieout.extraction.verify import source_addresses
from tieout.sources import (
    DECLARES_SOURCES,
    NAME_PATTERN,
    RAW_SCHEMA,
    Registry,
    Source,
    default_project,
    load_registry,
)

DEFAULT_OWNER = "payments-data"
COMMENT_WIDTH = 118
NAME_LIMIT = 63
# A scalar that YAML reads back as the same text without quotes.
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.,()' -]*[A-Za-z0-9_.)]|[A-Za-z]")
FRESHNESS = """\
    config:
      freshness:
        warn_after: {count: 26, period: hour}
        error_after: {count: 50, period: hour}
      meta:
"""


@dataclass(frozen=True)
class Added:
    """What was written: the file, the source's name, and what became of every table, in the order of their names."""

    path: Path
    source: str
    outcomes: tuple[Suggestion | LeftOut, ...]


def source_address(connection: str, environment: Mapping[str, str]) -> str:
    """Where a connection of Airflow's leads, by ``AIRFLOW_CONN_<CONNECTION>``.

    :returns: a libpq URI or DSN.
    :raises CatalogueError: the environment does not say, or says what cannot be read.
    """
    variable = f"AIRFLOW_CONN_{connection.upper()}"
    one = Registry((Source(connection, "snapshot", "", connection, "", ()),))
    try:
        address = source_addresses(one, environment).get(connection)
    except (ValueError, AttributeError, psycopg2.Error):
        raise CatalogueError(f"{variable} is neither a URI nor the JSON that Airflow writes") from None
    if not isinstance(address, str):
        raise CatalogueError(
            f"nothing says where connection {readable(connection)} leads: set {variable} as Airflow has it, "
            "or give --dsn (connections that only Airflow's own database knows are not seen here)"
        )
    return address


def named_keys(given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Table to its key columns, from ``TABLE=COLUMN,...``.

    :raises CatalogueError: it is written otherwise.
    """
    keys = {}
    for text in given:
        table, _, listed = text.partition("=")
        columns = tuple(part.strip() for part in listed.split(","))
        if not table or not all(columns):
            raise CatalogueError(f"--key {readable(text)}: write TABLE=COLUMN, or TABLE=COLUMN,COLUMN")
        keys[table] = columns
    return keys


def summary(added: Added) -> list[tuple[object, ...]]:
    """One row a table: name, rows, key, cursor, mode, personal columns, remarks."""
    rows: list[tuple[object, ...]] = []
    for outcome in added.outcomes:
        relation = outcome.relation
        size = "?" if relation.rows is None else f"{relation.rows:,}"
        if isinstance(outcome, LeftOut):
            reason = readable(f"left out: {outcome.reason}", 400)
            rows.append((readable(relation.name), size, None, None, None, None, reason))
            continue
        remarks = [*(f"{readable(name)} left out: {reason}" for name, reason in outcome.dropped), *outcome.remarks]
        rows.append(
            (
                relation.name, size, ", ".join(outcome.key), outcome.cursor, outcome.mode, ", ".join(outcome.personal),
                readable("; ".join(remarks), 400),
            )
        )  # fmt: skip
    return rows


def add_source(
    connection: str,
    schema: str,
    address: SourceAddress,
    *,
    name: str | None = None,
    tables: Sequence[str] = (),
    keys: Mapping[str, tuple[str, ...]] | None = None,
    owner: str = DEFAULT_OWNER,
    out: Path | None = None,
    replace: bool = False,
    project: Path | None = None,
) -> Added:
    """Read a schema's catalogue and write the dbt source YAML that declares its tables.

    :param connection: as Airflow knows it; also the source's name, unless ``name`` says otherwise.
    :param address: where the connection leads: a libpq URI or DSN, or a function that connects.
    :param tables: which tables; none means all.
    :param keys: table to its key columns, where the catalogue does not say them.
    :param out: the file; by default the source's own below the project's staging models.
    :param replace: whether a file that is there may be written anew.
    :param project: the dbt project's folder, by default :func:`tieout.sources.default_project`.
    :raises CatalogueError: the schema, a table or a name cannot be used, or the file is there; nothing is written.
    :raises RegistryError: what would be written does not go with the project; nothing is written.
    :raises psycopg2.OperationalError: the source does not answer.
    """
    project = project or default_project()
    source = name or connection.lower().replace("-", "_")
    if not NAME_PATTERN.fullmatch(source):
        raise CatalogueError(f"{readable(source)!r} cannot name a source: give one of a-z, 0-9 and _ with --name")
    for given in (connection, schema, owner):
        if yaml.safe_load(_scalar(given)) != given:
            raise CatalogueError(f"{readable(given)!r} cannot be written into the YAML as it is: rename it")
    path = out or project / "models" / "staging" / source / f"_{source}__sources.yml"
    if path.suffix not in (".yml", ".yaml"):
        raise CatalogueError(f"{path} would not be read: let its name end in .yml")
    if path.exists() and not replace:
        raise CatalogueError(f"{path} is there already: review that, choose another --out, or write it anew: --replace")
    others = _declarations(project, path)
    taken = _refuse_known_source(source, others)
    outcomes = _suggestions(_catalogue(address, schema), schema, tables, keys or {})
    text = declaration_text(source, connection, schema, owner, outcomes, taken)
    _prove(text, others)
    _write(path, text)
    return Added(path, source, outcomes)


def declaration_text(
    source: str,
    connection: str,
    schema: str,
    owner: str,
    outcomes: Sequence[Suggestion | LeftOut],
    taken: Iterable[str] = (),
) -> str:
    """The dbt source YAML, with a comment at everything that is a guess.

    :param taken: names of raw tables that are not free.
    """
    lines = [
        *_comment(
            f"Suggested by `tieout source add` from the catalogue of schema {readable(schema)}, for review. A comment "
            "that starts with 'guess' says why something is suggested and what to check; remove it when that is done.",
            0,
        ),
        "version: 2",
        "",
        "sources:",
        f"  - name: {source}",
        f"    description: {_scalar(f'Schema {readable(schema)} behind the connection {readable(connection)}.')}",
        f"    schema: {RAW_SCHEMA}",
        *FRESHNESS.splitlines(),
        f"        owner: {_scalar(owner)}",
        "        kind: snapshot",
        f"        connection: {_scalar(connection)}",
        f"        schema: {_scalar(schema)}",
        *_comment(
            "guess: money moves every day, so a table with amounts and nothing new for two days is late; null for a "
            "table where silence is no news",
            8,
        ),
        "        content_sla_hours: 50",
        "    tables:",
    ]
    used = set(taken)
    for outcome in outcomes:
        if isinstance(outcome, Suggestion):
            identifier = _identifier(source, outcome.relation.name, used)
            used.add(identifier)
            lines += _table(source, identifier, outcome)
    left = [outcome for outcome in outcomes if isinstance(outcome, LeftOut)]
    if left:
        lines += ["", "# Left out:"]
        for outcome in left:
            lines += _comment(f"{readable(outcome.relation.name)}: {outcome.reason}", 0)
    return "\n".join(lines) + "\n"


def _catalogue(address: SourceAddress, schema: str) -> list[Relation]:
    try:
        source = connect_source(address)
    except psycopg2.ProgrammingError:
        # libpq quotes what it could not read, and that may be a password.
        raise CatalogueError("the connection's address is no libpq URI or DSN, or has a parameter it lacks") from None
    try:
        source.autocommit = True
        return read_catalogue(source, schema)
    finally:
        source.close()


def _suggestions(
    relations: list[Relation], schema: str, tables: Sequence[str], keys: Mapping[str, tuple[str, ...]]
) -> tuple[Suggestion | LeftOut, ...]:
    names = [relation.name for relation in relations]
    if not names:
        raise CatalogueError(f"schema {readable(schema)} holds no table or view: there is nothing to declare")
    for wanted in (*tables, *keys):
        if wanted not in names:
            there = ", ".join(readable(name) for name in names[:50])
            raise CatalogueError(f"schema {readable(schema)} has no table {readable(wanted)!r}; it has {there}")
    chosen = [relation for relation in relations if not tables or relation.name in tables]
    outcomes = tuple(suggest(relation, keys.get(relation.name, ())) for relation in chosen)
    if not any(isinstance(outcome, Suggestion) for outcome in outcomes):
        reasons = "; ".join(
            f"{readable(outcome.relation.name)}: {readable(outcome.reason)}"
            for outcome in outcomes
            if isinstance(outcome, LeftOut)
        )
        raise CatalogueError(f"nothing of schema {readable(schema)} can be declared: {reasons}")
    return outcomes


def _declarations(project: Path, path: Path) -> dict[Path, str]:
    """Every file of the project that declares sources, but the one to be written."""
    models = project / "models"
    found = sorted([*models.rglob("*.yml"), *models.rglob("*.yaml")])
    texts = {each: each.read_text(encoding="utf-8") for each in found if each.resolve() != path.resolve()}
    return {each: text for each, text in texts.items() if DECLARES_SOURCES.search(text)}


def _refuse_known_source(source: str, others: Mapping[Path, str]) -> set[str]:
    """The names of raw tables that other files use.

    :raises CatalogueError: one of them declares a source of that name, or cannot be read.
    """
    taken: set[str] = set()
    for path, text in others.items():
        try:
            entries: list[dict[str, Any]] = (yaml.safe_load(text) or {}).get("sources") or []
        except yaml.YAMLError as error:
            raise CatalogueError(f"{path} is not YAML: {error}") from error
        for entry in entries:
            if entry.get("name") == source:
                raise CatalogueError(f"{path} declares a source {source} already: choose another name with --name")
            taken |= {str(table.get("identifier") or table.get("name")) for table in entry.get("tables") or []}
    return taken


def _identifier(source: str, table: str, used: set[str]) -> str:
    """The raw table's name: the source's and the table's, shortened where Postgres would cut it or another has it."""
    plain = f"{source}_{table}"
    if len(plain) <= NAME_LIMIT and plain not in used:
        return plain
    mark = hashlib.sha256(f"{source}.{table}".encode()).hexdigest()[:8]
    return f"{plain[: NAME_LIMIT - len(mark) - 1]}_{mark}"


def _table(source: str, identifier: str, suggestion: Suggestion) -> Iterator[str]:
    relation, why = suggestion.relation, suggestion.why
    described = relation.comment or f"One row per {' and '.join(suggestion.key)}; the source has no comment on it."
    size = "unknown" if relation.rows is None else f"about {relation.rows:,}"
    yield from _comment(f"{relation.kind}, rows: {size}", 6)
    yield f"      - name: {relation.name}"
    yield f"        identifier: {identifier}"
    yield f"        description: {_scalar(described)}"
    yield "        config:"
    yield (
        "          loaded_at_query: select max(as_of) from ops.batches "
        f"where source = '{source}' and table_name = '{relation.name}'"
    )
    yield "          meta:"
    settings = {
        "key": f"[{', '.join(suggestion.key)}]",
        "cursor": suggestion.cursor,
        "mode": suggestion.mode,
        "immutable": f"[{', '.join(suggestion.immutable)}]" if suggestion.immutable else "",
        "content_sla_hours": "" if suggestion.amounts else "null",
        "classification": suggestion.classification,
        "amounts": ", ".join(f"{amount}: {currency}" for amount, currency in suggestion.amounts.items()),
    }
    for setting, value in settings.items():
        if setting in why:
            yield from _comment(f"guess: {why[setting]}", 12)
        if value:
            yield f"            {setting}: {{{value}}}" if setting == "amounts" else f"            {setting}: {value}"
    yield "        columns:"
    for column in suggestion.columns:
        if f"column {column.name}" in why:
            yield from _comment(f"guess: {why[f'column {column.name}']}", 10)
        elif column.name in suggestion.personal:
            yield from _comment("guess: personal, by its name or type", 10)
        yield f"          - name: {column.name}"
        yield f"            data_type: {_scalar(str(column.data_type))}"
        yield f"            description: {_scalar(column.comment or _undescribed(column.is_generated))}"
        if column.name in suggestion.not_null:
            yield "            constraints: [{type: not_null}]"
        if column.name in suggestion.free_text:
            yield "            config: {meta: {free_text: true}}"
    for name, reason in suggestion.dropped:
        yield from _comment(f"{readable(name)} left out: {reason}", 10)


def _undescribed(is_generated: bool) -> str:
    return "Computed by the source; it has no comment on it." if is_generated else "The source has no comment on it."


def _comment(text: str, indent: int) -> list[str]:
    margin = " " * indent + "# "
    return textwrap.wrap(
        readable(text, 600), COMMENT_WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _scalar(text: str) -> str:
    """Text as a YAML scalar on one line. dbt renders descriptions, so what would be a template there is taken apart."""
    line = re.sub(r"\{(?=[{%#])", "{ ", readable(text, 500))
    if PLAIN.fullmatch(line) and yaml.safe_load(line) == line:
        return line
    quoted = "".join(f"\\{character}" if character in '"\\' else character for character in line)
    return f'"{quoted}"'


def _prove(text: str, others: Mapping[Path, str]) -> None:
    """Read what would be written as the registry will, beside the project's other declarations."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        models.mkdir()
        for number, other in enumerate(others.values()):
            (models / f"{number}.yml").write_text(other, encoding="utf-8")
        (models / "suggested.yml").write_text(text, encoding="utf-8")
        load_registry(Path(folder))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

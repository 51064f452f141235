"""The project's own SQL over thousands of small worlds at once, and the smallest world that it judges differently.

Every world has keys, accounts and a method of its own, so that no two can meet; what dbt compiled for the models from
``int_items`` to ``break_register`` then runs once for all of them, in a copy of the deployed warehouse.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from tests.dbt.oracle.facts import LEFT, Earlier, Item, Outcome, World
from tests.dbt.oracle.matcher import reconcile
from tests.dbt.oracle.rules import Rules
from tests.dbt.worlds import EMPTY, WORKING, Warehouse
from tieout.dbt_runner import DbtRunner

NAME = "oracle"
# What is built, in this order, from what the worlds give.
MODELS = ("int_matches", "int_expected_fees", "reconciliation_items", "break_register")
GIVEN = "int_items"
SCHEMAS = {
    GIVEN: "intermediate", "int_matches": "intermediate", "int_expected_fees": "intermediate",
    "reconciliation_items": "reconciliation", "break_register": "reconciliation",
}  # fmt: skip
PARENT, ABANDONED, CLOSE = 1, 2, 3
COMPILED_FOR = date(2026, 10, 30)
# Of an item's columns those that name something: each world's have its number in front.
NAMING = (
    "item_key", "clearing_account", "strong_key", "weak_key", "pool_key", "processor_account", "bank_account",
    "method_type",
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    """One row of ``reconciliation_items``: its outcome, and where it clears."""

    outcome: Outcome
    clearing_account: str
    currency: str
    group_id: str | None


@dataclass(frozen=True)
class Difference:
    """A world and the items of it that the two judge differently: item key -> (the oracle's outcome, the SQL's)."""

    world: World
    outcomes: dict[str, tuple[Outcome | None, Outcome | None]]

    @property
    def kinds(self) -> frozenset[tuple[tuple[str, str | None] | None, ...]]:
        """What is said of the items instead of what: two differences with none in common have different reasons."""
        return frozenset(
            tuple((judged.status, judged.code) if judged else None for judged in both)
            for both in self.outcomes.values()
        )

    def __str__(self) -> str:
        lines = [f"business date {self.world.business_date:%a %Y-%m-%d}"]
        for item in self.world.items:
            oracle, found = self.outcomes.get(item.item_key, (None, None))
            lines.append(_told(item))
            if item.item_key in self.outcomes:
                lines += [f"    oracle: {_told(oracle)}", f"    SQL:    {_told(found)}"]
        for name in ("earlier", "abandoned", "contracts", "volumes"):
            lines += [f"{name}: {_told(row)}" for row in getattr(self.world, name)]
        lines += [f"covered: {sender} until {until}" for sender, until in self.world.covered_until.items()]
        return "\n".join(lines)


def compile_models(runner: DbtRunner) -> dict[str, str]:
    """What dbt makes of the models for :data:`CLOSE`: name -> SQL that names no database."""
    variables = {
        "close_id": CLOSE, "parent_close_id": PARENT, "business_date": COMPILED_FOR.isoformat(), "builder": "oracle",
    }  # fmt: skip
    with redirect_stdout(io.StringIO()):
        results = runner.run(["compile", "--select", *MODELS], variables, name=NAME)
    assert {result.status for result in results} == {"success"}, results
    found = {path.stem: path for path in (runner.folder / NAME / "compiled").rglob("*.sql")}
    return {model: found[model].read_text().replace(f'"{WORKING}".', "") for model in MODELS}


class Matching:
    """A copy of the deployed warehouse in which the compiled models run over worlds.

    :param compiled: model -> SQL, as :func:`compile_models` gives it.
    """

    def __init__(self, connection: Connection, compiled: dict[str, str]) -> None:
        self.connection = connection
        self.compiled = compiled
        with connection, connection.cursor() as cursor:
            cursor.execute("set synchronous_commit = off")
            self._columns = {
                model: _columns(cursor, schema, model) for model, schema in SCHEMAS.items()
            }

    @classmethod
    def over(cls, warehouse: Warehouse, compiled: dict[str, str], name: str = NAME) -> Matching:
        """A matching in a new copy ``name`` of the empty warehouse."""
        warehouse.cluster.execute(f'drop database if exists "{name}" with (force)')
        warehouse.cluster.execute(f'create database "{name}" template {EMPTY}')
        connection = psycopg2.connect(warehouse.cluster.dsn(name))
        with connection, connection.cursor() as cursor:
            for close_id, parent, state in ((1, None, "published"), (2, 1, "superseded"), (3, 1, "running")):
                cursor.execute(
                    "insert into ops.closes (close_id, book, business_date, generation, parent_close_id, state, "
                    "rules_digest, as_of) overriding system value values (%s, 'global', %s, %s, %s, %s, '', now())",
                    (close_id, COMPILED_FOR, close_id, parent, state),
                )  # fmt: skip
        return cls(connection, compiled)

    def judged(self, worlds: Sequence[World]) -> Iterator[tuple[World, dict[str, Built]]]:
        """Every world with its items as the SQL judges them: item key -> outcome."""
        for business_date in sorted({world.business_date for world in worlds}):
            of_the_day = [world for world in worlds if world.business_date == business_date]
            yield from zip(of_the_day, self._build(of_the_day), strict=True)

    def _build(self, worlds: Sequence[World]) -> list[dict[str, Built]]:
        (business_date,) = {world.business_date for world in worlds}
        with self.connection, self.connection.cursor() as cursor:
            self._fill(cursor, worlds)
            for model in MODELS:
                schema = SCHEMAS[model]
                table = f"{schema}.{model}"
                cursor.execute(
                    f"truncate {table}" if schema == "intermediate" else f"delete from {table} where close_id = {CLOSE}"
                )
                names = ", ".join(self._columns[model])
                query = self.compiled[model].replace(f"date '{COMPILED_FOR}'", f"date '{business_date}'")
                cursor.execute(f"insert into {table} ({names}) select {names} from (\n{query}\n) as built")
                cursor.execute(f"analyze {table}")
            return self._read(cursor, len(worlds))

    def differences(self, worlds: Sequence[World], rules: Rules) -> list[Difference]:
        """The worlds, of any business dates, that the oracle judges differently, with the items it does."""
        different = []
        for world, built in self.judged(worlds):
            expected = reconcile(world, rules)
            actual = {key: row.outcome for key, row in built.items()}
            outcomes = {
                key: (expected.get(key), actual.get(key))
                for key in expected.keys() | actual.keys()
                if expected.get(key) != actual.get(key)
            }
            if outcomes:
                different.append(Difference(world, outcomes))
        return different

    def smallest(self, difference: Difference, rules: Rules) -> Difference:
        """The same with everything taken out of the world that it does not need."""
        while simpler := list(_simpler(difference.world)):
            # A simpler world may be judged differently for a reason of its own: that is another difference.
            same = [found for found in self.differences(simpler, rules) if found.kinds & difference.kinds]
            if not same:
                break
            difference = same[0]
        return difference

    def _fill(self, cursor: Cursor, worlds: Sequence[World]) -> None:
        items = [_item_row(number, item, world) for number, world in enumerate(worlds) for item in world.items]
        _insert(cursor, "intermediate.int_items", self._filled(GIVEN, items), "truncate intermediate.int_items")
        _insert(cursor, "staging.stg_payments__fee_schedules", [
            {**_row(contract), "fee_schedule_id": f"{number}:{contract.fee_schedule_id}",
             "method_type": f"{number}:{contract.method_type}"}
            for number, world in enumerate(worlds) for contract in world.contracts
        ], "truncate staging.stg_payments__fee_schedules")  # fmt: skip
        _insert(cursor, "reconciliation.fee_volumes", [
            {**_row(volume), "method_type": f"{number}:{volume.method_type}", "item_count": 1,
             "close_id": ABANDONED if volume.is_abandoned else place % 2 * 2 + PARENT,
             "business_date": COMPILED_FOR.isoformat()}
            for number, world in enumerate(worlds) for place, volume in enumerate(world.volumes)
        ], "truncate reconciliation.fee_volumes")  # fmt: skip
        _insert(cursor, "intermediate.int_coverage", [
            {"origin": origin, "origin_account": f"{number}:{account}", "covered_until": until.isoformat()}
            for number, world in enumerate(worlds) for (origin, account), until in world.covered_until.items()
        ], "truncate intermediate.int_coverage")  # fmt: skip
        _insert(cursor, "reconciliation.reconciliation_items", self._filled("reconciliation_items", [
            _earlier_row(number, close_id, earlier)
            for number, world in enumerate(worlds)
            for close_id, rows in ((PARENT, world.earlier), (ABANDONED, world.abandoned))
            for earlier in rows
        ]), "truncate reconciliation.reconciliation_items")  # fmt: skip

    def _filled(self, model: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows that say no of whatever else is asked."""
        no = {name: False for name, kind in self._columns[model].items() if kind == "boolean"}
        return [no | row for row in rows]

    def _read(self, cursor: Cursor, count: int) -> list[dict[str, Built]]:
        cursor.execute(
            "select item_key, status, break_code, exclusion_reason, rule_id, group_id, expected_fee_minor, "
            "fee_variance_minor, first_seen_business_date, last_changed_business_date, clearing_minor, "
            "clearing_account, currency "
            f"from reconciliation.reconciliation_items where close_id = {CLOSE}"
        )
        rows = cursor.fetchall()
        members: dict[str, list[tuple[int, str]]] = {}
        for row in rows:
            if row[5] is not None:
                members.setdefault(row[5], []).append(_split(row[0]))
        built: list[dict[str, Built]] = [{} for _ in range(count)]
        for row in rows:
            key, status, code, reason, rule_id, group_id, fee, variance, seen, changed, minor, account, currency = row
            number, item_key = _split(key)
            group = members.get(group_id, [])
            assert {world for world, _ in group} <= {number}, f"{group_id} is of several worlds"
            outcome = Outcome(
                status, reason if status == "excluded" else code, rule_id,
                frozenset(name for _, name in group), fee, variance, minor, seen, changed,
            )  # fmt: skip
            assert item_key not in built[number], f"{key} has two outcomes"
            built[number][item_key] = Built(outcome, account, currency, group_id)
        return built


def _simpler(world: World) -> Iterator[World]:
    """The world without one thing, each thing in turn; then with one thing that is less special."""
    for name in ("items", "earlier", "abandoned", "contracts", "volumes"):
        rows: tuple[object, ...] = getattr(world, name)
        for position in range(len(rows)):
            fewer: dict[str, Any] = {name: (*rows[:position], *rows[position + 1 :])}
            yield replace(world, **fewer)
    for sender in world.covered_until:
        yield replace(world, covered_until={key: day for key, day in world.covered_until.items() if key != sender})
    for position, item in enumerate(world.items):
        for plainer in _plainer(item, world.business_date):
            yield replace(world, items=(*world.items[:position], plainer, *world.items[position + 1 :]))


def _plainer(item: Item, business_date: date) -> Iterator[Item]:
    if item.is_carried:
        yield replace(
            item, is_carried=False, carried_break_code=None, first_seen_business_date=None,
            last_changed_business_date=None,
        )  # fmt: skip
    if item.value_date != business_date:
        yield replace(item, value_date=business_date)
    if item.side == LEFT and item.due_date != business_date:
        yield replace(item, expected_date=business_date, due_date=business_date)
    for field in fields(item):
        if field.default is None and getattr(item, field.name) is not None and field.name != "due_date":
            without: dict[str, Any] = {field.name: None}
            yield replace(item, **without)


def _columns(cursor: Cursor, schema: str, table: str) -> dict[str, str]:
    cursor.execute(
        "select column_name, data_type from information_schema.columns where table_schema = %s and table_name = %s",
        (schema, table),
    )
    return dict(cursor.fetchall())


def _insert(cursor: Cursor, table: str, rows: list[dict[str, Any]], clear: str) -> None:
    cursor.execute(clear)
    cursor.execute(
        f"insert into {table} select (jsonb_populate_recordset(null::{table}, %s::jsonb)).*", (json.dumps(rows),)
    )
    cursor.execute(f"analyze {table}")


def _row(thing: object) -> dict[str, Any]:
    """The columns of a fact as JSON says them."""
    texts = (date, datetime, Decimal)
    values = {field.name: getattr(thing, field.name) for field in fields(thing)}  # type: ignore[arg-type]
    return {name: str(value) if isinstance(value, texts) else value for name, value in values.items()}


def _item_row(number: int, item: Item, world: World) -> dict[str, Any]:
    row = _row(item)
    is_future = item.exclusion_reason is None and item.value_date > world.business_date
    row |= {name: f"{number}:{row[name]}" for name in NAMING if row[name] is not None}
    row["calendar"] = item.calendar or item.currency
    return row | {
        "source_reference": row["item_key"], "source_name": "files", "source_table": "settlement_lines",
        "control_count": 1, "control_minor": item.amount_minor, "control_currency": item.currency,
        "is_future_dated": is_future, "is_entering": not is_future,
    }  # fmt: skip


def _earlier_row(number: int, close_id: int, earlier: Earlier) -> dict[str, Any]:
    day = COMPILED_FOR.isoformat()
    return {
        "close_id": close_id, "business_date": day, "item_key": f"{number}:{earlier.item_key}",
        "reconciliation": earlier.reconciliation, "side": "right", "item_type": "capture",
        "status": "excluded" if earlier.exclusion_reason else "matched", "exclusion_reason": earlier.exclusion_reason,
        "strong_key": earlier.strong_key and f"{number}:{earlier.strong_key}",
        "weak_key": earlier.weak_key and f"{number}:{earlier.weak_key}",
        "ledger_date": day if earlier.was_paired else None, "reported_date": day if earlier.was_reported else None,
        "source_reference": "", "source_name": "", "source_table": "",
        "amount_minor": earlier.amount_minor, "currency": "EUR", "batch_id": 1,
        "clearing_minor": 0, "clearing_account": f"{number}:", "value_date": str(earlier.value_date or day),
    }  # fmt: skip


def _split(key: str) -> tuple[int, str]:
    number, _, item_key = key.partition(":")
    return int(number), item_key


def _told(thing: object) -> str:
    """What of a fact is not its default."""
    if thing is None:
        return "no such item"
    told: Iterable[str] = (
        f"{field.name}={value.isoformat() if isinstance(value, date) else value!r}"
        for field in fields(thing)  # type: ignore[arg-type]
        if (value := getattr(thing, field.name)) != field.default and value is not None
    )
    return f"{type(thing).__name__}({', '.join(told)})"

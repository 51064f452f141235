"""What every model owes its readers, and what the warehouse looks like once it is deployed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from psycopg2 import errors

from tests.dbt.worlds import Warehouse, World

Node = dict[str, Any]
# What a reader may select from besides the published views: the booked journal, its seals, the rules.
LEDGER = {"ledger.journal", "ledger.seals"}
# Each published mart twice: as it stands, and as it was ever known.
READ = ("published", "known")


@pytest.fixture(scope="module")
def manifest(deployed: Warehouse) -> dict[str, Any]:
    """dbt's own account of the project that was deployed."""
    read: dict[str, Any] = json.loads((deployed.state / "dbt" / "deploy" / "manifest.json").read_text())
    return read


@pytest.fixture(scope="module")
def models(manifest: dict[str, Any]) -> list[Node]:
    """Every model."""
    return [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]


@pytest.fixture(scope="module")
def marts(models: list[Node]) -> list[Node]:
    """Every model whose partitions people read."""
    found = [node for node in models if node["path"].startswith("marts/")]
    assert len(found) >= 10
    return found


def relation(node: Node) -> str:
    return f"{node['schema']}.{node['alias']}"


def test_a_past_partition_is_never_rebuilt_nor_reshaped(marts: list[Node]) -> None:
    """--full-refresh would destroy every past close; on_schema_change: ignore would drop a new column unseen."""
    wanted = {
        "materialized": "incremental",
        "incremental_strategy": "close_partition",
        "full_refresh": False,
        "on_schema_change": "fail",
    }
    found = {relation(node): {name: node["config"][name] for name in wanted} for node in marts}
    assert {mart: config for mart, config in found.items() if config != wanted} == {}


def test_a_new_partition_is_analyzed(marts: list[Node]) -> None:
    """Without it a new partition is planned as one row, and a close that takes seconds takes minutes."""
    assert [
        relation(n) for n in marts if "analyze {{ this }}" not in [h["sql"] for h in n["config"]["post-hook"]]
    ] == []


def test_no_close_copies_all_that_earlier_closes_left(models: list[Node]) -> None:
    """A named query that is asked twice is written down whole first: a day would cost what all days before it hold."""
    whole = re.compile(r"^(\w+) as (not materialized )?\(\s+select \* from \{\{ earlier_rows\(.*\}\} as \w+\n\)", re.M)
    found = {
        (node["name"], name): (len(re.findall(rf"\b(?:from|join) {name}\b", node["raw_code"])), bool(inlined))
        for node in models
        for name, inlined in whole.findall(node["raw_code"])
    }
    assert len(found) >= 5
    assert {where for where, (asked, inlined) in found.items() if asked > 1 and not inlined} == set()


def test_every_mart_keeps_an_enforced_contract(marts: list[Node]) -> None:
    assert [relation(node) for node in marts if not node["contract"]["enforced"]] == []
    untyped = [f"{relation(n)}.{c['name']}" for n in marts for c in n["columns"].values() if not c["data_type"]]
    assert untyped == []
    keys = {relation(n): [c["type"] for c in n["constraints"]] for n in marts}
    assert [mart for mart, constraints in keys.items() if "primary_key" not in constraints] == []


def test_every_model_says_what_a_row_is_and_who_owns_it(models: list[Node]) -> None:
    assert [relation(n) for n in models if not n["patch_path"]] == []
    assert [relation(n) for n in models if not n["description"].startswith("One row per")] == []
    assert [relation(n) for n in models if not n["config"]["meta"].get("owner")] == []


def test_every_column_that_exists_is_described(deployed: Warehouse, models: list[Node]) -> None:
    described = {
        relation(n): {c["name"] for c in n["columns"].values() if c["description"].strip()}
        for n in models
        if n["config"]["materialized"] != "ephemeral"
    }
    existing: dict[str, set[str]] = {}
    for name, column in deployed.query("select table_schema || '.' || table_name, column_name "
                                       "from information_schema.columns"):  # fmt: skip
        existing.setdefault(name, set()).add(column)
    assert described.keys() - existing.keys() == set()
    assert {m: existing[m] ^ columns for m, columns in described.items() if existing[m] != columns} == {}


def test_readers_find_the_descriptions_on_the_views_they_see(deployed: Warehouse, models: list[Node]) -> None:
    said = {(view, column): text for view, column, text in deployed.query(
        "select c.relname, coalesce(a.attname, ''), d.description from pg_description d "
        "join pg_class c on d.objoid = c.oid and c.relnamespace = 'published'::regnamespace "
        "left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid and a.attnum > 0"
    )}  # fmt: skip
    marts = [n for n in models if "published" in n["tags"]]
    assert len(marts) > 10
    expected = {(n["name"], ""): n["description"] for n in marts}
    expected |= {(n["name"], c["name"]): c["description"] for n in marts for c in n["columns"].values()}
    assert said == expected


def test_every_seed_says_what_a_row_is_and_who_owns_it(manifest: dict[str, Any]) -> None:
    seeds = [node for node in manifest["nodes"].values() if node["resource_type"] == "seed"]
    assert len(seeds) > 10
    assert [n["name"] for n in seeds if not n["description"].startswith("One row per")] == []
    assert [n["name"] for n in seeds if not n["config"]["meta"].get("owner")] == []


def test_no_float_anywhere_on_moneys_path(deployed: Warehouse) -> None:
    schemas = {"raw", "ops", "ledger", "staging", "intermediate", "reconciliation", "accounting", "kpi", "rules"}
    columns = deployed.query(
        "select table_schema, table_name, column_name, data_type from information_schema.columns "
        "where table_schema not in ('pg_catalog', 'information_schema')"
    )
    assert schemas <= {schema for schema, *_ in columns}
    assert [column for column in columns if column[3] in ("real", "double precision", "money")] == []


def test_amounts_are_whole_minor_units(deployed: Warehouse) -> None:
    """Sums of the proof and of control totals may exceed a bigint; every other amount is one."""
    columns = deployed.query(
        "select table_schema || '.' || table_name, column_name, data_type from information_schema.columns "
        "where column_name like '%%\\_minor' and table_schema not in ('published', 'known', 'metrics')"
    )
    assert len(columns) > 50
    sums = (
        "reconciliation.proof_items", "reconciliation.proof_exceptions", "accounting.proof_clearing",
        "ops.batch_totals", "ops.close_exceptions",
    )  # fmt: skip
    assert [c for c in columns if c[2] != ("numeric" if c[0] in sums else "bigint")] == []


def test_grants_of_the_reader_are_those_declared(deployed: Warehouse, manifest: dict[str, Any]) -> None:
    nodes = manifest["nodes"].values()
    declared = {f"{schema}.{n['alias']}" for n in nodes if "published" in n.get("tags", []) for schema in READ}
    declared |= {relation(n) for n in nodes if n["resource_type"] == "seed"} | LEDGER
    granted = deployed.query(
        "select n.nspname || '.' || c.relname, array_agg(distinct p) "
        "from pg_class c join pg_namespace n on n.oid = c.relnamespace, "
        "unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p "
        "where c.relkind in ('r', 'v', 'm', 'p', 'f') and n.nspname not in ('pg_catalog', 'information_schema') "
        "and has_schema_privilege('reader', n.oid, 'usage') and has_table_privilege('reader', c.oid, p) group by 1"
    )
    assert dict(granted) == {name: ["select"] for name in declared}


def test_what_the_controller_writes_is_what_is_declared(deployed: Warehouse) -> None:
    """Decisions and signatures, which nobody changes; who came and when is the database's to say."""
    written = deployed.query(
        "select n.nspname || '.' || c.relname, array_agg(distinct a.attname::text order by a.attname::text) "
        "from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid "
        "where c.relkind in ('r', 'p') and a.attnum > 0 and n.nspname not in ('pg_catalog', 'information_schema') "
        "and has_schema_privilege('controller', n.oid, 'usage') "
        "and has_column_privilege('controller', c.oid, a.attnum, 'insert') group by 1"
    )
    assert {name: columns for name, columns in written if name != "ops.file_actions"} == {
        "ops.break_actions": ["actor", "book", "item_keys", "kind", "owner", "reason"],
        "ops.close_exceptions": ["actor", "check_name", "close_id", "currency", "difference_count",
                                 "difference_minor", "reason", "subject"],
        "ops.period_changes": ["actor", "book", "change", "first_date", "last_date", "reason"],
    }  # fmt: skip
    assert "ops.file_actions" in {name for name, _ in written}
    assert deployed.query(
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace, "
        "unnest(array['update', 'delete', 'truncate']) p where c.relkind in ('r', 'p') "
        "and n.nspname not in ('pg_catalog', 'information_schema') and has_table_privilege('controller', c.oid, p)"
    ) == []  # fmt: skip


def test_the_reader_runs_none_of_our_functions(deployed: Warehouse) -> None:
    assert deployed.query(
        "select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        "where n.nspname not in ('pg_catalog', 'information_schema') "
        "and has_schema_privilege('reader', n.oid, 'usage') and has_function_privilege('reader', p.oid, 'execute')"
    ) == []  # fmt: skip


def test_a_reader_sees_published_closes_and_no_other(world: World) -> None:
    """Money misreported: a figure of a close that has not proven itself."""
    warehouse, (day, opened) = world.warehouse, list(world.closes.items())[1]
    before = world.proven(day)
    built = "select count(*) from reconciliation.reconciliation_items where close_id = %s"
    assert warehouse.query(built, (opened.close_id,), before)[0][0] > 0
    with warehouse.connect("reader", before) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select count(*) filter (where business_date = %s), count(*) from published.reconciliation_items", (day,)
        )
        of_today, of_all = cursor.fetchall()[0]
        assert of_today == 0
        assert of_all > 0
        for hidden in ("reconciliation.reconciliation_items", "staging.stg_payments__captures", "raw.bank_entries",
                       "ops.closes"):  # fmt: skip
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(f"select * from {hidden} limit 1")
            connection.rollback()

"""The registry: what is declared is what is read, and what is wrong is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tieout.postgres import Cluster
from tieout.sources import Column, Registry, RegistryError, ensure_raw_tables, load_registry

ROOT = Path(__file__).resolve().parents[2]


def declaration() -> dict[str, Any]:
    return {
        "version": 2,
        "sources": [
            {
                "name": "shop",
                "schema": "raw",
                "config": {
                    "freshness": {
                        "warn_after": {"count": 90, "period": "minute"},
                        "error_after": {"count": 2, "period": "day"},
                    },
                    "meta": {
                        "owner": "payments-data",
                        "kind": "snapshot",
                        "connection": "shop",
                        "schema": "public",
                        "content_sla_hours": 30,
                    },
                },
                "tables": [
                    {
                        "name": "orders",
                        "identifier": "shop_orders",
                        "description": "One row per order.",
                        "config": {
                            "meta": {
                                "key": ["order_id"],
                                "cursor": "updated_at",
                                "mode": "incremental",
                                "classification": "internal",
                                "amounts": {"amount_minor": "currency"},
                            }
                        },
                        "columns": [
                            {"name": "order_id", "data_type": "text", "constraints": [{"type": "not_null"}]},
                            {"name": "amount_minor", "data_type": "bigint", "constraints": [{"type": "not_null"}]},
                            {"name": "currency", "data_type": "text"},
                            {"name": "updated_at", "data_type": "timestamptz"},
                        ],
                    }
                ],
            }
        ],
    }


def registry_of(folder: Path, document: dict[str, Any]) -> Registry:
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "sources.yml").write_text(yaml.safe_dump(document))
    return load_registry(folder)


def test_everything_declared_is_read(tmp_path: Path) -> None:
    registry = registry_of(tmp_path, declaration())
    source = registry.source("shop")
    assert (source.kind, source.connection, source.schema) == ("snapshot", "shop", "public")
    table = registry.table("shop_orders")
    assert registry.tables == source.tables == (table,)
    assert (table.source, table.name, table.source_schema) == ("shop", "orders", "public")
    assert table.columns[0] == Column("order_id", "text", True)
    assert table.columns[2] == Column("currency", "text", False)
    assert (table.key, table.cursor, table.mode) == (("order_id",), "updated_at", "incremental")
    assert table.amounts == {"amount_minor": "currency"}
    assert (table.owner, table.classification) == ("payments-data", "internal")
    assert (table.load_warn_hours, table.load_error_hours, table.content_sla_hours) == (1.5, 48.0, 30.0)


def test_a_table_overrides_its_source(tmp_path: Path) -> None:
    document = declaration()
    config = document["sources"][0]["tables"][0]["config"]
    config["freshness"] = None
    config["meta"]["owner"] = "risk"
    table = registry_of(tmp_path, document).table("shop_orders")
    assert (table.owner, table.load_warn_hours, table.load_error_hours) == ("risk", None, None)


def test_how_a_table_is_swept_is_declared_for_it_or_for_its_source(tmp_path: Path) -> None:
    document = declaration()
    table = registry_of(tmp_path, document).table("shop_orders")
    assert (table.sweep_every_days, table.deletions_max, table.immutable) == (7.0, None, ())
    document["sources"][0].setdefault("config", {}).setdefault("meta", {})["sweep_every_days"] = 2
    meta_of(document).update(deletions_max=5, immutable=["currency"])
    table = registry_of(tmp_path, document).table("shop_orders")
    assert (table.sweep_every_days, table.deletions_max, table.immutable) == (2.0, 5, ("currency",))
    meta_of(document).update(mode="append")
    assert registry_of(tmp_path, document).table("shop_orders").immutable == table.column_names


def test_names_of_tables_that_a_person_typed_are_compared_with_the_declared_ones(tmp_path: Path) -> None:
    (source,) = registry_of(tmp_path, declaration()).sources
    other = replace(source, name="stall", tables=(*source.tables, replace(source.tables[0], name="stands")))
    files = replace(source, name="files", kind="file", tables=(replace(source.tables[0], name="lines"),))
    registry = Registry((source, other, files))
    for asked, of_shop, of_stall in (
        (["orders"], ("orders",), ("orders",)),
        (["stands"], (), ("stands",)),
        (["stands", "shop.orders"], ("orders",), ("stands",)),
        ([], (), ()),
        (None, (), ()),
    ):
        assert registry.names("shop", asked, "tables") == of_shop
        assert registry.names("stall", asked, "tables") == of_stall
    for wrong, said in (
        ("orders", "must be a list of"), (3, "must be a list of"), (["Orders"], "no source has a table 'Orders'"),
        (["shop.stands"], "no source has a table 'shop.stands'"), (["lines"], "no source has a table 'lines'"),
    ):  # fmt: skip
        with pytest.raises(RegistryError, match=f"^tables.*{said}"):
            registry.names("shop", wrong, "tables")


def test_sources_without_a_kind_are_dbts_alone(tmp_path: Path) -> None:
    document = declaration()
    document["sources"].append({"name": "ops", "schema": "ops", "tables": [{"name": "batches"}]})
    assert [source.name for source in registry_of(tmp_path, document).sources] == ["shop"]


def test_the_projects_own_declaration_can_be_loaded() -> None:
    registry = load_registry(ROOT / "dbt_project")
    assert {source.name for source in registry.sources} == {"payments", "files"}
    assert {"payments_captures", "settlement_lines", "bank_entries"} <= {table.raw_table for table in registry.tables}


def table_of(document: dict[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = document["sources"][0]["tables"][0]
    return table


def meta_of(document: dict[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = table_of(document)["config"]["meta"]
    return meta


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: meta_of(d).pop("key"), r"meta\.key is missing"),
        (lambda d: meta_of(d).pop("cursor"), r"meta\.cursor is missing"),
        (lambda d: meta_of(d).pop("mode"), r"meta\.mode is missing"),
        (lambda d: meta_of(d).pop("classification"), r"meta\.classification is missing"),
        (lambda d: meta_of(d).update(mode="sometimes"), r"must be one of incremental, append, full"),
        (lambda d: meta_of(d).update(classification="secret"), r"must be one of public"),
        (lambda d: meta_of(d).update(sweep_every_days="often"), r"sweep_every_days is 'often', must be a number, 0 or"),
        (lambda d: meta_of(d).update(deletions_max=-1), r"deletions_max is -1, must be a number, 0 or more"),
        (lambda d: meta_of(d).update(immutable=["colour"]), r"colour, which is no declared column"),
        (lambda d: meta_of(d).update(cursor="changed_at"), r"changed_at, which is no declared column"),
        (lambda d: meta_of(d).update(key=["currency"]), r"currency is part of the key, so it needs .* not_null"),
        (lambda d: table_of(d)["columns"][1].pop("data_type"), r"column amount_minor has no data_type"),
        (lambda d: table_of(d)["columns"][1].update(data_type="double precision"), r"amount_minor is an amount"),
        (lambda d: table_of(d)["columns"][1].update(data_type="bigint); drop table x; --"), r"not the name of a Post"),
        (lambda d: table_of(d)["columns"][1].update(name='a"b'), r"cannot name a column"),
        (lambda d: table_of(d).update(identifier="Orders-1"), r"cannot name a raw table"),
        (lambda d: table_of(d).update(columns=[]), r"declares no columns"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_table(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], said: str
) -> None:
    document = declaration()
    damage(document)
    with pytest.raises(RegistryError, match=said) as raised:
        registry_of(tmp_path, document)
    assert "sources.yml" in str(raised.value)
    assert "shop.orders" in str(raised.value)


def test_a_source_without_connection_is_named(tmp_path: Path) -> None:
    document = declaration()
    document["sources"][0]["config"]["meta"].pop("connection")
    with pytest.raises(RegistryError, match=r"sources\.yml: source shop: meta\.connection is missing"):
        registry_of(tmp_path, document)


def test_two_tables_may_not_land_in_one(tmp_path: Path) -> None:
    document = declaration()
    tables = document["sources"][0]["tables"]
    tables.append({**tables[0], "name": "more_orders"})
    with pytest.raises(RegistryError, match=r"both land in raw\.shop_orders"):
        registry_of(tmp_path, document)


def test_no_declaration_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="TIEOUT_DBT_PROJECT"):
        load_registry(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(RegistryError, match="nothing to load"):
        load_registry(tmp_path)


def test_broken_yaml_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.yml").write_text("sources:\n  - name: a: b\n")
    with pytest.raises(RegistryError, match=r"bad\.yml is not YAML"):
        load_registry(tmp_path)


def test_the_environment_names_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry_of(tmp_path, declaration())
    monkeypatch.setenv("TIEOUT_DBT_PROJECT", str(tmp_path))
    assert [table.raw_table for table in load_registry().tables] == ["shop_orders"]


def test_importing_it_is_light() -> None:
    code = "import sys, tieout.sources; print(sorted({'pandas', 'airflow', 'dbt'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "plugins"
    )
    assert done.stdout.strip() == "[]"


def columns_of(connection: Any, table: str) -> list[tuple[str, str, bool]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute "
            "where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
            (table,),
        )
        return list(cursor.fetchall())


def test_raw_tables_are_made_once(tmp_path: Path, cluster: Cluster, database: Callable[..., str]) -> None:
    registry = registry_of(tmp_path, declaration())
    with cluster.connect(database("raw")) as connection:
        connection.cursor().execute("create schema raw")
        connection.commit()
        assert len(ensure_raw_tables(connection, registry)) == 3
        assert ensure_raw_tables(connection, registry) == []
        assert columns_of(connection, "raw.shop_orders") == [
            ("batch_id", "bigint", True),
            ("is_deleted", "boolean", True),
            ("order_id", "text", True),
            ("amount_minor", "bigint", True),
            ("currency", "text", False),
            ("updated_at", "timestamp with time zone", False),
        ]
        with connection.cursor() as cursor:
            cursor.execute("select indexdef from pg_indexes where schemaname = 'raw'")
            indexes = " ".join(row[0] for row in cursor.fetchall())
        assert "(batch_id)" in indexes
        assert "(order_id, batch_id)" in indexes


def test_versions_of_a_file_are_found_by_their_digest(cluster: Cluster, database: Callable[..., str]) -> None:
    with cluster.connect(database("raw")) as connection, connection.cursor() as cursor:
        cursor.execute("create schema raw")
        ensure_raw_tables(connection, load_registry())
        cursor.execute(
            "select tablename, regexp_replace(indexdef, '.* USING ', '') from pg_indexes "
            "where schemaname = 'raw' order by 1, 2"
        )
        indexes: dict[str, list[str]] = {}
        for table, definition in cursor.fetchall():
            indexes.setdefault(table, []).append(definition)
    assert indexes["bank_entries"] == ["btree (batch_id)", "hash (row_key)"]
    # Lines of a document are found by it: no line of most reports has an entry here, which would cost half of its COPY.
    assert indexes["settlement_lines"] == [
        "btree (batch_id)", "hash (row_key) WHERE ((document_no IS NULL) OR (processor = 'stripe'::text))"
    ]  # fmt: skip
    assert indexes["fx_rates"][0] == "btree (batch_id)"
    assert indexes["fx_rates"][1].startswith("btree (rate_source")


def test_a_column_declared_later_is_added_and_others_may_not_change(
    tmp_path: Path, cluster: Cluster, database: Callable[..., str]
) -> None:
    document = declaration()
    with cluster.connect(database("raw")) as connection:
        connection.cursor().execute("create schema raw")
        connection.commit()
        ensure_raw_tables(connection, registry_of(tmp_path, document))
        columns = table_of(document)["columns"]
        columns.append({"name": "fee", "data_type": "numeric(12, 2)", "constraints": [{"type": "not_null"}]})
        assert ensure_raw_tables(connection, registry_of(tmp_path, document)) == ["added raw.shop_orders.fee"]
        assert ensure_raw_tables(connection, registry_of(tmp_path, document)) == []
        assert columns_of(connection, "raw.shop_orders")[-1] == ("fee", "numeric(12,2)", False)

        columns[-1]["data_type"] = "numeric(14,2)"
        with pytest.raises(RegistryError, match=r"fee is numeric\(12,2\), but shop\.orders declares.*migration"):
            ensure_raw_tables(connection, registry_of(tmp_path, document))
        columns.pop()
        with pytest.raises(RegistryError, match=r"has a column fee that shop\.orders no longer declares.*migration"):
            ensure_raw_tables(connection, registry_of(tmp_path, document))

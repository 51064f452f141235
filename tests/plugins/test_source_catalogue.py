"""tieout source add: a schema's catalogue becomes a declaration that is taken and proves, or it is said why not."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from psycopg2.extensions import connection as Connection
from typer.testing import CliRunner

from tieout.cli import BAD_INPUT, FAILED, app
from tieout.extraction.catalogue import CatalogueError
from tieout.extraction.declaration import Added, add_source, source_address
from tieout.extraction.snapshot import take_snapshot
from tieout.extraction.suggestions import LeftOut, Suggestion
from tieout.extraction.verify import verify_batches
from tieout.postgres import Cluster
from tieout.sources import Registry, RegistryError, Table, ensure_raw_tables, load_registry

ROOT = Path(__file__).resolve().parents[2]
PAYMENT_SYSTEM = ROOT / "plugins" / "tieout" / "sandbox" / "payment_system.sql"
DAY = (datetime(2026, 10, 19, tzinfo=UTC), datetime(2026, 10, 20, tzinfo=UTC))
AS_OF = datetime(2026, 10, 20, 4, tzinfo=UTC)


class Place:
    """A source's database and a dbt project of its own."""

    def __init__(self, dsn: str, project: Path) -> None:
        self.dsn = dsn
        self.project = project
        (project / "models").mkdir(parents=True, exist_ok=True)
        self.source = psycopg2.connect(dsn)
        self.source.autocommit = True

    def sql(self, statements: str) -> None:
        with self.source.cursor() as cursor:
            cursor.execute(statements)

    def add(self, schema: str = "shop", **given: Any) -> Added:
        return add_source("shop", schema, given.pop("address", self.dsn), project=self.project, **given)

    def registry(self) -> Registry:
        return load_registry(self.project)

    def table(self, name: str) -> Table:
        return next(table for table in self.registry().tables if table.name == name)

    def declared(self, statements: str) -> Table:
        """Make a schema of one table ``t`` and declare it."""
        self.sql(f"create schema shop; {statements}")
        self.add()
        return self.table("t")


@pytest.fixture(scope="module")
def shop_dsn(cluster: Cluster) -> Iterator[str]:
    """One database for all tests here: each leaves it without a schema."""
    cluster.execute("create database source_catalogue")
    yield cluster.dsn("source_catalogue")
    cluster.execute("drop database source_catalogue with (force)")


@pytest.fixture
def place(shop_dsn: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(shop_dsn, tmp_path / "project")
    yield made
    made.sql(
        "drop schema if exists shop cascade; drop schema if exists payments cascade; "
        "drop schema if exists simulation cascade; drop schema if exists nothing, keyless cascade; "
        "drop table if exists public.canary"
    )
    made.source.close()


def left_out(added: Added) -> dict[str, str]:
    return {outcome.relation.name: outcome.reason for outcome in added.outcomes if isinstance(outcome, LeftOut)}


def suggestion(added: Added, name: str) -> Suggestion:
    (found,) = (outcome for outcome in added.outcomes if outcome.relation.name == name)
    assert isinstance(found, Suggestion), found
    return found


def flat(text: str) -> str:
    """Text of a comment that was wrapped."""
    return re.sub(r"\s*\n\s*# ", " ", text)


# The sandbox's payment system, which has a declaration made by hand.


def test_the_suggested_declaration_is_the_one_made_by_hand(place: Place) -> None:
    place.sql(PAYMENT_SYSTEM.read_text())
    added = add_source("payments", "payments", place.dsn, project=place.project)
    assert added.path == place.project / "models" / "staging" / "payments" / "_payments__sources.yml"
    by_hand = {table.name: table for table in load_registry(ROOT / "dbt_project").source("payments").tables}
    suggested = {table.name: table for table in place.registry().source("payments").tables}
    assert suggested.keys() == by_hand.keys()
    amounts_apart = {}
    for name, table in suggested.items():
        hand = by_hand[name]
        assert (table.raw_table, table.key, table.cursor) == (hand.raw_table, hand.key, hand.cursor)
        assert [(c.name, c.data_type, c.not_null) for c in table.columns] == [
            (c.name, c.data_type, c.not_null) for c in hand.columns
        ]
        assert (table.connection, table.source_schema, table.owner) == (hand.connection, hand.source_schema, hand.owner)
        assert (table.load_warn_hours, table.load_error_hours) == (hand.load_warn_hours, hand.load_error_hours)
        if table.amounts != hand.amounts:
            amounts_apart[name] = table.amounts.items() - hand.amounts.items()
        assert set(table.immutable) <= set(hand.immutable) or table.mode == "append"
    # A tariff in minor units is no money that moves: no catalogue says that.
    tariff = ("fixed_minor", "minimum_minor", "maximum_minor", "tier_from_minor")
    assert amounts_apart == {"fee_schedules": {(amount, "currency") for amount in tariff}}
    # The bank accounts are our own, not of people: only a person knows that.
    assert {name for name in suggested if suggested[name].classification != by_hand[name].classification} == {
        "fx_conversions", "ledger_entries", "payouts",
    }  # fmt: skip
    assert suggested["payment_methods"].classification == "personal"
    # Whether rows change is the system's secret: an updated_at and a flag say that they may, nothing says that they do.
    assert {name: table.mode for name, table in suggested.items() if table.mode != by_hand[name].mode} == {
        "captures": "incremental", "fx_conversions": "incremental", "disputes": "incremental",
        "payment_methods": "append",
    }  # fmt: skip


def test_what_was_suggested_is_taken_and_proves(place: Place, cluster: Cluster, database: Callable[..., str]) -> None:
    from tieout.postgres import migrate

    place.sql(PAYMENT_SYSTEM.read_text())
    place.sql(
        "insert into payments.merchants values ('m1', 'Acme', 'NL', 'platform', 'EUR', 25, now(), now());"
        "insert into payments.payment_methods select 'pm' || i, 'tok' || i, 'card', 'visa', '424242', '4242', 'NL', "
        "now() from generate_series(1, 30) i;"
        "insert into payments.payments select 'p' || i, 'm1', 'pm' || i, 'order' || i, 'NL', 'adyen', 'ACME', i * 100, "
        "(array['EUR', 'JPY'])[1 + i % 2], 'captured', now(), now() from generate_series(1, 30) i;"
        "insert into payments.fx_conversions values ('fx1', 'ref', 'a', -5, 'EUR', 'b', 6, 'USD', 1.1, now(), now(), "
        "now())"
    )
    add_source("payments", "payments", place.dsn, project=place.project)
    registry = place.registry()
    warehouse = psycopg2.connect(cluster.dsn(database("warehouse")))
    try:
        migrate(warehouse)
        ensure_raw_tables(warehouse, registry)
        batches = take_snapshot(place.dsn, warehouse, registry, "payments", *DAY, AS_OF)
        assert {batch.outcome for batch in batches} == {"loaded"}
        assert {batch.table: batch.row_count for batch in batches if batch.row_count} == {
            "merchants": 1, "payment_methods": 30, "payments": 30, "fx_conversions": 1,
        }  # fmt: skip
        verdicts = verify_batches(warehouse, registry, (), {"payments": place.dsn})
        assert verdicts
        assert all(verdict.holds for verdict in verdicts), verdicts
    finally:
        warehouse.close()


# What is suggested, and why.


@pytest.mark.parametrize(
    ("columns", "cursor"),
    [
        ("created_at timestamptz not null, updated_at timestamptz not null", "updated_at"),
        ("created_at timestamptz not null, updated_at timestamptz", "created_at"),
        ("modified date not null, last_modified timestamptz not null", "last_modified"),
        ("valid_from timestamptz not null, booked_at timestamptz not null", "booked_at"),
        ("expires_at timestamptz not null, made timestamp", "made"),
        ("birth_date date not null", "birth_date"),
        ("a_at timestamptz not null, b_at timestamptz not null", "b_at"),
    ],
)
def test_the_cursor_shows_how_fresh_a_row_is(columns: str, cursor: str, place: Place) -> None:
    place.sql(f"create schema shop; create table shop.t (id bigint primary key, {columns})")
    if "b_at" in columns:
        place.sql("create index on shop.t (b_at)")
    place.add()
    assert place.table("t").cursor == cursor


@pytest.mark.parametrize(
    ("columns", "mode"),
    [
        ("made_at timestamptz not null, n integer", "append"),
        ("made_at timestamptz not null, status text", "incremental"),
        ("made_at timestamptz not null, order_state text", "incremental"),
        ("made_at timestamptz not null, is_open boolean", "incremental"),
        ("made_at timestamptz not null, paid_at timestamptz", "incremental"),
        ("made_at timestamptz not null, updated_at timestamptz", "incremental"),
    ],
)
def test_a_table_is_append_only_where_nothing_shows_a_change(columns: str, mode: str, place: Place) -> None:
    assert place.declared(f"create table shop.t (id bigint primary key, {columns})").mode == mode


def test_a_table_that_the_server_saw_updated_is_not_append(place: Place) -> None:
    place.sql(
        "create schema shop; create table shop.t (id bigint primary key, made_at timestamptz not null);"
        "insert into shop.t values (1, now())"
    )
    place.sql("update shop.t set made_at = now(); select pg_stat_force_next_flush()")
    added = place.add()
    assert place.table("t").mode == "incremental"
    assert "has counted 1 updates" in flat(added.path.read_text())


def test_amounts_are_whole_minor_units_with_the_nearest_currency(place: Place) -> None:
    table = place.declared(
        "create table shop.t (id bigint primary key, made_at timestamptz not null, currency char(3) not null, "
        "sell_amount_minor bigint, sell_currency text, fee_cents integer, total bigint, platform_fee_bps integer, "
        "price numeric(12,2), net_amount double precision, amount_no integer, tip text)"
    )
    assert table.amounts == {"sell_amount_minor": "sell_currency", "fee_cents": "currency", "total": "currency"}
    text = flat(place.add(replace=True).path.read_text())
    assert "total is a whole number named like money: check that it counts minor units" in text
    assert "money as numeric(12,2): no control total covers it" in text
    assert "money as double precision" in text


def test_an_amount_without_a_currency_is_no_amount_and_says_so(place: Place) -> None:
    table = place.declared("create table shop.t (id bigint primary key, at timestamptz, amount_minor bigint not null)")
    assert table.amounts == {}
    assert "no column holds its currency" in flat((place.add(replace=True)).path.read_text())


def test_people_card_numbers_free_text_and_credentials(place: Place) -> None:
    table = place.declared(
        "create table shop.t (id bigint primary key, at timestamptz not null, email text, phone_number varchar(30), "
        "card_number text, note text, comment varchar(200), memo char(40), reason_code text, ip inet, "
        "is_email_verified boolean, "
        "password_hash text, cvv text, payload jsonb, product_name text)"
    )
    assert table.classification == "personal"
    free_text = [(column.name, column.data_type) for column in table.columns if column.free_text]
    assert free_text == [("card_number", "text"), ("note", "text"), ("comment", "text")]
    assert not {"password_hash", "cvv"} & set(table.column_names)
    added = place.add(replace=True)
    assert suggestion(added, "t").personal == ("email", "phone_number", "card_number", "ip")
    text = flat(added.path.read_text())
    assert "only text without a fixed length is masked, not character(40)" in text
    assert "cvv left out: it looks like a credential" in text
    assert "payload: jsonb is not masked" in suggestion(added, "t").remarks


def test_a_key_is_never_masked(place: Place) -> None:
    table = place.declared("create table shop.t (pan text primary key, card_number bigint, at timestamptz not null)")
    assert table.classification == "personal"
    assert not any(column.free_text for column in table.columns)
    added = place.add(replace=True)
    assert suggestion(added, "t").remarks == [
        "pan: a part of the key is not masked", "card_number: bigint is not masked",
    ]  # fmt: skip


def test_a_table_of_people_has_names(place: Place) -> None:
    place.sql(
        "create schema shop; create table shop.customers (id int primary key, at timestamptz, name text);"
        "create table shop.products (id int primary key, at timestamptz, name text);"
        "create table shop.fee_schedules (id int primary key, at timestamptz)"
    )
    place.add()
    assert {name: place.table(name).classification for name in ("customers", "products", "fee_schedules")} == {
        "customers": "personal", "products": "internal", "fee_schedules": "confidential",
    }  # fmt: skip


# Hostile and unusual catalogues.

ZOO = r"""
create schema shop;
create domain shop.money_minor as bigint not null check (value >= 0);
create domain shop.small_money as shop.money_minor;
create type shop.state as enum ('open', 'closed');
create type shop.pair as (a int, b int);
create table shop.kinds (
    id uuid primary key, amount shop.money_minor, fee_minor shop.small_money, currency varchar(3) not null,
    state shop.state not null, states shop.state[], pair shop.pair, tags text[], doc jsonb, doc2 json,
    at timestamp(3) with time zone not null, rate numeric(20,10), odd numeric(5,-2), few interval day to second(2),
    whole bigint generated always as (5 * 2) stored, "camelCase" text, "two words" text, is_deleted boolean,
    batch_id bigint, letter "char", code character(2), bits bit varying(5), updated_at timestamptz not null
);
create table shop.composite (b int, a text, at timestamptz not null, primary key (a, b));
create table shop.unique_only (a int not null, b int, c int not null, d int not null, at timestamptz not null);
create unique index on shop.unique_only (b);
create unique index on shop.unique_only (a) where b > 0;
create unique index on shop.unique_only ((a + 1));
create unique index on shop.unique_only (c, d) include (b);
create table shop.keyless (a int, at timestamptz);
create table shop.timeless (a int primary key);
create table shop.keyed_oddly ("K" int primary key, at timestamptz);
create table shop.parts (id int, day date not null, made_at timestamptz not null, primary key (id, day))
partition by range (day);
create table shop.parts_1 partition of shop.parts for values from ('2026-01-01') to ('2027-01-01')
partition by list (id);
create table shop.parts_1_1 partition of shop.parts_1 for values in (1);
create table shop.parents (id int primary key, at timestamptz not null);
create table shop.children () inherits (shop.parents);
create view shop.totals as select 1 as total_id, now() as at, 5::bigint as amount_minor, 'EUR'::text as currency;
create view shop.opaque as select 1 as x, now() as at;
create materialized view shop.kept as select 1 as id, now() as at;
create unique index on shop.kept (id);
create table shop."x""; drop table canary; --" (id int primary key, at timestamptz);
create table shop."Upper" (id int primary key, at timestamptz);
create table shop.secret (id int primary key, at timestamptz not null);
create table shop.rows_hidden (id int primary key, at timestamptz not null);
alter table shop.rows_hidden enable row level security;
create table public.canary (id int);
comment on table shop.composite is E'It''s {{ env_var("SECRET") }}: "quoted"\n  - name: evil\u2028# {% raw %}\\ ';
comment on column shop.composite.a is '*anchor & !tag | > : #';
insert into shop.kinds (id, amount, fee_minor, currency, state, at, updated_at)
select gen_random_uuid(), 100, 1, 'EUR', 'open', now(), now() from generate_series(1, 10);
insert into shop.parts select 1, '2026-05-05', now();
insert into shop.composite select i, 'a', now() from generate_series(1, 5) i;
analyze shop.composite;
"""


@pytest.fixture
def zoo(place: Place, cluster: Cluster) -> Iterator[Place]:
    place.sql(ZOO)
    place.sql(
        "create role watcher login; grant usage on schema shop to watcher; "
        "grant select on all tables in schema shop to watcher; revoke select on shop.secret from watcher"
    )
    yield place
    place.sql("drop owned by watcher; drop role watcher")


def as_watcher(zoo: Place) -> str:
    return zoo.dsn.replace("postgres@", "watcher@")


def test_what_cannot_be_declared_is_left_out_with_the_reason(zoo: Place) -> None:
    reasons = left_out(zoo.add(address=as_watcher(zoo)))
    assert {name: reason.partition(":")[0] for name, reason in reasons.items()} == {
        "keyless": "nothing says what makes a row unique",
        "timeless": "it has no moment or date, so nobody could tell how fresh it is",
        "keyed_oddly": "its key has K, which cannot be declared",
        "children": "it inherits from shop.parents, and its rows come with that",
        "opaque": "nothing says what makes a row unique",
        'x"; drop table canary; --': "its name is not made of a-z, 0-9 and _",
        "Upper": "its name is not made of a-z, 0-9 and _",
        "secret": "the connection's user may not read it",
        "rows_hidden": "row security would hide rows",
    }
    assert "grant select on shop.secret" in reasons["secret"]
    assert "--key keyless=COLUMN" in reasons["keyless"]
    assert {table.name for table in zoo.registry().tables} == {
        "kinds", "composite", "unique_only", "parts", "parents", "totals", "kept",
    }  # fmt: skip


def test_the_canary_lives(zoo: Place) -> None:
    hostile = 'x"; drop table canary; --'
    added = zoo.add()
    assert hostile in left_out(added)
    for given in ({"tables": ("x'; drop table canary; --",)}, {"keys": {hostile: ('id"; drop table canary; --',)}}):
        with pytest.raises(CatalogueError):
            zoo.add(replace=True, **given)
    with pytest.raises(CatalogueError, match="no schema"):
        zoo.add(schema="shop'; drop table public.canary; --", replace=True)
    with zoo.source.cursor() as cursor:
        cursor.execute("select to_regclass('public.canary') is not null")
        assert cursor.fetchone() == (True,)
    assert "drop table" not in "\n".join(
        line for line in added.path.read_text().splitlines() if not line.lstrip().startswith("#")
    )


def test_types_are_those_that_raw_holds(zoo: Place) -> None:
    added = zoo.add()
    table = zoo.table("kinds")
    assert {column.name: column.data_type for column in table.columns} == {
        "id": "uuid", "amount": "bigint", "fee_minor": "bigint", "currency": "varchar(3)", "state": "text",
        "tags": "text[]", "doc": "jsonb", "doc2": "json", "at": "timestamptz(3)", "rate": "numeric(20,10)",
        "odd": "numeric", "few": "interval", "whole": "bigint", "code": "character(2)", "bits": "bit varying(5)",
        "updated_at": "timestamptz",
    }  # fmt: skip
    assert table.column("amount").not_null
    assert table.amounts == {"amount": "currency", "fee_minor": "currency"}
    assert {name for name, _ in suggestion(added, "kinds").dropped} == {
        "states", "pair", "camelCase", "two words", "is_deleted", "batch_id", "letter",
    }  # fmt: skip
    assert "is_deleted left out: raw keeps a column of that name itself" in flat(added.path.read_text())


def test_keys_come_from_the_catalogue_or_are_named_guesses(zoo: Place) -> None:
    zoo.add(keys={"keyless": ("a",)})
    assert {table.name: table.key for table in zoo.registry().tables} == {
        "kinds": ("id",), "composite": ("a", "b"), "unique_only": ("c", "d"), "keyless": ("a",), "parts": ("id", "day"),
        "parents": ("id",), "totals": ("total_id",), "kept": ("id",), "rows_hidden": ("id",), "secret": ("id",),
    }  # fmt: skip
    text = flat((zoo.project / "models" / "staging" / "shop" / "_shop__sources.yml").read_text())
    assert "there is no primary key; a unique index holds for these columns" in text
    assert "guess: by its name, a view has no key. Check that it is unique and never null" in text
    assert "guess: as asked for. Check that it is unique" in text
    assert {table.name for table in zoo.registry().tables if table.mode == "full"} == {"totals", "kept"}


def test_comments_of_the_source_stay_text(zoo: Place) -> None:
    added = zoo.add()
    document = yaml.safe_load(added.path.read_text())
    composite = next(table for table in document["sources"][0]["tables"] if table["name"] == "composite")
    assert composite["description"] == "It's { { env_var(\"SECRET\") }}: \"quoted\" - name: evil # { % raw %}\\"
    assert composite["columns"][1]["description"] == "*anchor & !tag | > : #"
    assert not re.search(r"\{[{%#]", added.path.read_text())
    assert "# table, rows: about 5" in added.path.read_text()


def test_the_zoo_is_taken_and_proves(zoo: Place, cluster: Cluster, database: Callable[..., str]) -> None:
    from tieout.postgres import migrate

    zoo.add(keys={"keyless": ("a",)})
    registry = zoo.registry()
    warehouse = psycopg2.connect(cluster.dsn(database("warehouse")))
    try:
        migrate(warehouse)
        ensure_raw_tables(warehouse, registry)
        batches = take_snapshot(zoo.dsn, warehouse, registry, "shop", *DAY, AS_OF)
        assert {batch.table: (batch.outcome, batch.problem) for batch in batches} == {
            table.name: ("loaded", None) for table in registry.tables
        }
        assert {batch.table: batch.row_count for batch in batches if batch.row_count} == {
            "kinds": 10, "composite": 5, "parts": 1, "totals": 1, "kept": 1,
        }  # fmt: skip
        assert all(verdict.holds for verdict in verify_batches(warehouse, registry) if verdict.against == "raw")
    finally:
        warehouse.close()


# Files and names.


def test_a_file_that_is_there_is_kept_unless_told(place: Place) -> None:
    place.sql("create schema shop; create table shop.t (id int primary key, at timestamptz)")
    path = place.add().path
    path.write_text("mine")
    with pytest.raises(CatalogueError, match=r"is there already.*--replace"):
        place.add()
    assert path.read_text() == "mine"
    place.add(replace=True)
    assert place.table("t").key == ("id",)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_nothing_is_written_when_the_project_would_not_load(place: Place) -> None:
    place.sql("create schema shop; create table shop.t (id int primary key, at timestamptz)")
    other = place.project / "models" / "other.yml"
    other.write_text("sources:\n  - {name: broken, schema: elsewhere, config: {meta: {kind: file}}, tables: []}\n")
    with pytest.raises(RegistryError, match="schema must be raw"):
        place.add()
    other.write_text("sources:\n  - {name: shop, tables: []}\n")
    with pytest.raises(CatalogueError, match=r"declares a source shop already.*--name"):
        place.add()
    assert list(place.project.rglob("*__sources*")) == []


def test_names_of_raw_tables_never_meet(place: Place) -> None:
    long = "t" * 60
    place.sql(
        f"create schema shop; create table shop.b_c (id int primary key, at timestamptz);"
        f"create table shop.{long} (id int primary key, at timestamptz)"
    )
    (place.project / "models" / "other.yml").write_text(
        textwrap.dedent(
            """
            sources:
              - name: shop_b
                schema: raw
                config: {meta: {kind: snapshot, connection: c, schema: s, owner: o, classification: internal}}
                tables:
                  - name: c
                    identifier: shop_b_c
                    config: {meta: {key: [id], cursor: id, mode: full}}
                    columns: [{name: id, data_type: integer, constraints: [{type: not_null}]}]
            """
        )
    )
    place.add()
    names = {table.name: table.raw_table for table in place.registry().source("shop").tables}
    assert re.fullmatch(r"shop_b_c_[0-9a-f]{8}", names["b_c"])
    assert re.fullmatch(r"shop_t{49}_[0-9a-f]{8}", names[long])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "set AIRFLOW_CONN_SHOP as Airflow has it, or give --dsn"),
        ({"AIRFLOW_CONN_SHOP": ""}, "set AIRFLOW_CONN_SHOP"),
        ({"AIRFLOW_CONN_SHOP": "{not json"}, "neither a URI nor the JSON"),
    ],
)
def test_a_connection_that_nobody_knows_is_named(told: dict[str, str], said: str) -> None:
    with pytest.raises(CatalogueError, match=said):
        source_address("shop", told)


def test_a_connection_is_what_airflow_is_told() -> None:
    assert source_address("shop", {"AIRFLOW_CONN_SHOP": "postgresql://u@h/d"}) == "postgresql://u@h/d"
    told = '{"host": "h", "login": "u", "schema": "d", "password": "a b"}'
    given = source_address("shop", {"AIRFLOW_CONN_SHOP": told})
    assert psycopg2.extensions.parse_dsn(given) == {"host": "h", "user": "u", "dbname": "d", "password": "a b"}


# The command.


@pytest.fixture
def tieout(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("TIEOUT_DBT_PROJECT", str(place.project))
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", place.dsn)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["source", "add", *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


def test_the_command_shows_every_table_and_what_to_do_next(
    place: Place, tieout: Callable[..., tuple[int, str]]
) -> None:
    place.sql(
        "create schema shop;"
        "create table shop.orders (id int primary key, email text, updated_at timestamptz not null);"
        "create table shop.loose (a int); insert into shop.orders select i, 'e', now() from generate_series(1, 1500) i;"
        "analyze shop.orders"
    )
    code, text = tieout("shop", "shop")
    assert code == 0
    assert re.search(r"^orders +1,500 +id +updated_at +incremental +email", text, re.MULTILINE)
    assert "left out: nothing says what makes a row unique" in " ".join(text.split())
    assert "tieout migrate" in text
    assert place.table("orders").mode == "incremental"
    code, text = tieout("shop", "shop")
    assert code == BAD_INPUT
    assert "is there already" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("shop", "nowhere"), "there is no schema 'nowhere'"),
        (("shop", "nothing"), "holds no table or view"),
        (("shop", "shop", "--table", "orders"), "has no table 'orders'; it has t"),
        (("shop", "shop", "--key", "t"), "write TABLE=COLUMN"),
        (("shop", "shop", "--key", "t=nope"), "has no column 'nope'"),
        (("shop", "keyless"), "nothing of schema keyless can be declared"),
        (("elsewhere", "shop"), "set AIRFLOW_CONN_ELSEWHERE"),
        (("my shop", "shop", "--dsn", "host=x"), "cannot name a source"),
        (("shop", "shop", "--dsn", "secret-pass word"), "no libpq URI or DSN"),
        (("shop", "shop", "--out", "sources.txt"), "let its name end in .yml"),
        (("shop", "{{ x }}"), "cannot be written into the YAML"),
    ],
)
def test_bad_input_is_exit_code_2_and_writes_nothing(
    arguments: tuple[str, ...], said: str, place: Place, tieout: Callable[..., tuple[int, str]]
) -> None:
    place.sql(
        "create schema shop; create schema nothing; create schema keyless; create table keyless.t (a int);"
        "create table shop.t (id int primary key, at timestamptz)"
    )
    code, text = tieout(*arguments)
    assert code == BAD_INPUT
    assert said in " ".join(text.split())
    assert "secret-pass" not in text
    assert list(place.project.rglob("*.yml")) == []


def test_a_server_that_does_not_answer_is_exit_code_1(tieout: Callable[..., tuple[int, str]]) -> None:
    code, text = tieout("shop", "shop", "--dsn", "postgresql://nobody@127.0.0.1:1/x")
    assert code == FAILED
    assert "did not answer" in text


def test_a_schema_that_may_not_be_entered_is_named(zoo: Place) -> None:
    zoo.sql("revoke usage on schema shop from watcher")
    with pytest.raises(CatalogueError, match="watcher may not use schema shop: grant usage"):
        zoo.add(address=as_watcher(zoo))


def test_the_catalogue_is_read_without_a_write_or_a_row(zoo: Place) -> None:
    seen: list[Connection] = []

    def connect() -> Connection:
        seen.append(psycopg2.connect(zoo.dsn, options="-c default_transaction_read_only=on -c log_statement=none"))
        return seen[-1]

    zoo.add(address=connect)
    assert seen[0].closed

"""A card number that somebody typed at the source: masked in raw, noted, told, and in no text on the way."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from psycopg2.extensions import connection as Connection

from tests.plugins.desk import Desk, adyen, statement
from tieout import files
from tieout.card_numbers import CardKey, luhn, mask
from tieout.extraction.snapshot import Batch, SnapshotError, take_snapshot
from tieout.files import proof
from tieout.postgres import Cluster
from tieout.sources import Registry, RegistryError, ensure_raw_tables, load_registry
from tieout.watch.alerts import deliver, record
from tieout.watch.load_checks import load_notes

DAY = datetime(2026, 10, 19, tzinfo=UTC)
AS_OF = datetime(2026, 10, 28, 4, tzinfo=UTC)
SECRET = "0123456789abcdef0123456789abcdef"
VISA, SPACED, AMEX = "4111111111111111", "5555 5555 5555 4444", "378282246310005"

DECLARATION = """
sources:
  - name: shop
    schema: raw
    config:
      meta: {owner: payments-data, kind: snapshot, connection: shop, schema: shop, classification: internal,
             mode: %(mode)s, cursor: updated_at}
    tables:
      - name: orders
        identifier: shop_orders
        config: {meta: {key: [order_id], amounts: {amount_minor: currency}}}
        columns:
          - {name: order_id, data_type: text, constraints: [{type: not_null}]%(key)s}
          - {name: amount_minor, data_type: bigint}
          - {name: currency, data_type: text}
          - {name: note, data_type: text, config: {meta: {free_text: true}}}
          - {name: buyer, data_type: text, config: {meta: {free_text: true}}}
          - {name: updated_at, data_type: timestamptz, constraints: [{type: not_null}]}
"""
TABLE = """
create schema shop;
create table shop.orders (
    order_id text primary key, amount_minor bigint, currency text, note text, buyer text,
    updated_at timestamptz not null default '2026-10-19 12:00+00'
);
insert into shop.orders select 'o' || i, i, 'EUR', 'order ' || i, null from generate_series(1, 200) i;
"""


def declared(folder: Path, key: str = "", mode: str = "incremental") -> Registry:
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "shop.yml").write_text(DECLARATION % {"key": key, "mode": mode})
    return load_registry(folder)


class Shop:
    """A shop in whose free text card numbers stand, and the warehouse it is loaded into."""

    def __init__(self, cluster: Cluster, source: str, warehouse: Connection, registry: Registry) -> None:
        self.cluster, self.source, self.warehouse, self.registry = cluster, source, warehouse, registry

    def sell(self, statement: str) -> None:
        self.cluster.execute(statement, self.source)

    def load(self, day: int = 0) -> Batch:
        start, dsn = DAY + timedelta(days=day), self.cluster.dsn(self.source)
        (batch,) = take_snapshot(
            dsn, self.warehouse, self.registry, "shop", start, start + timedelta(days=1), AS_OF
        )  # fmt: skip
        return batch

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with self.warehouse, self.warehouse.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


def everything(place: Shop | Desk) -> str:
    """All text of every table of the warehouse."""
    tables = place.ask(
        "select format('%I.%I', schemaname, tablename) from pg_tables "
        "where schemaname not in ('pg_catalog', 'information_schema')"
    )
    return "\n".join(row[0] for (table,) in tables for row in place.ask(f"select t::text from {table} t"))


@pytest.fixture
def shop(
    cluster: Cluster, database: Callable[..., str], warehouse: Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:  # fmt: skip
    monkeypatch.setenv("TIEOUT_CARD_KEY", SECRET)
    registry = declared(tmp_path)
    ensure_raw_tables(warehouse, registry)
    made = Shop(cluster, database("shop"), warehouse, registry)
    made.sell(TABLE)
    return made


def numbers_in(text: str) -> list[str]:
    """Runs of 13 digits or more whose last 13 to 19 or whole end in a valid check digit, spaces and hyphens apart."""
    found = []
    for run in re.findall(r"\d[\d -]{11,}\d", text):
        digits = re.sub(r"\D", "", run)
        total = sum(sum(map(int, str(int(digit) * (1 + place % 2)))) for place, digit in enumerate(digits[::-1]))
        if 13 <= len(digits) <= 19 and total % 10 == 0:
            found.append(digits)
    return found


@pytest.mark.parametrize("limited", ["varchar(40)", "varchar", "shop.remark"])
def test_text_that_the_source_limits_is_masked_too(shop: Shop, limited: str) -> None:
    shop.sell("create domain shop.remark as varchar(40)")
    shop.sell(f"alter table shop.orders alter note type {limited}")
    shop.sell(f"update shop.orders set note = 'pay with {VISA} please' where order_id = 'o1'")
    assert shop.load().outcome == "loaded"
    masked = mask(f"pay with {VISA} please", CardKey(SECRET))[0]
    assert len(masked) > 40
    assert shop.ask("select note from raw.shop_orders where order_id = 'o1'") == [(masked,)]


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ("text", "varchar(40)", "refused"),
        ("varchar(40)", "varchar(39)", "refused"),
        ("varchar", "varchar(40)", "refused"),
        ("varchar(39)", "varchar(40)", "loaded"),
        ("varchar(40)", "text", "loaded"),
        ("text", "varchar", "loaded"),
        ("text", "char(40)", "refused"),
    ],
)
def test_free_text_that_gets_shorter_freezes_its_table(shop: Shop, before: str, after: str, outcome: str) -> None:
    shop.sell(f"alter table shop.orders alter note type {before}")
    assert shop.load().outcome == "loaded"
    shop.sell(f"alter table shop.orders alter note type {after}")
    assert shop.load(1).outcome == outcome
    said = "table_refused" if outcome == "refused" else "column_changed"
    assert shop.ask("select kind from ops.load_notes order by note_id desc limit 1") == [(said,)]


def test_what_was_typed_is_masked_in_raw_and_noted(shop: Shop) -> None:
    shop.sell(
        f"update shop.orders set note = 'pay with {VISA} please' where order_id = 'o1'; "
        f"update shop.orders set note = '{SPACED}', buyer = 'J. Doe {AMEX}' where order_id = 'o2'"
    )
    batch = shop.load()
    key = CardKey(SECRET)
    assert shop.ask("select order_id, note, buyer from raw.shop_orders where order_id in ('o1', 'o2') order by 1") == [
        ("o1", mask(f"pay with {VISA} please", key)[0], None),
        ("o2", mask(SPACED, key)[0], mask(f"J. Doe {AMEX}", key)[0]),
    ]
    assert shop.ask("select count(*) from raw.shop_orders where note = 'order ' || amount_minor") == [(198,)]
    ((severity, message, observed),) = shop.ask(
        f"select severity, message, observed from ops.load_notes where kind = 'card_number' "
        f"and batch_id = {batch.batch_id} and table_name = 'orders'"
    )
    assert severity == "fail"
    assert message.startswith("2 rows of shop.orders have a card number in note, buyer: it was masked")
    assert observed == {"rows": 2, "columns": {"note": 2, "buyer": 1}}
    assert [note for note in batch.notes if note.startswith("card_number: 2 rows")]
    assert not [number for number in (VISA, SPACED, AMEX) if number in everything(shop)]


def test_a_table_without_card_numbers_has_no_note(shop: Shop) -> None:
    assert shop.load().notes == ()


def test_a_thousand_cards_leave_none_in_the_warehouse(shop: Shop) -> None:
    chance = random.Random(1)
    seeded = []
    for number in range(1000):
        head, length = chance.choice((("4", 16), ("51", 16), ("2720", 16), ("34", 15), ("36", 14), ("62", 19)))
        body = head + "".join(chance.choice("0123456789") for _ in range(length - 1 - len(head)))
        total = sum(sum(map(int, str(int(digit) * (2 - place % 2)))) for place, digit in enumerate(body[::-1]))
        card = body + str(-total % 10)
        spelled = "-".join(card[at : at + 4] for at in range(0, length, 4)) if number % 3 == 0 else card
        seeded.append(f"('c{number}', {number}, 'EUR', '{chance.choice(('', 'paid by '))}{spelled}', '{card}.')")
    assert len(numbers_in("\n".join(seeded))) >= 2000
    shop.sell(f"insert into shop.orders (order_id, amount_minor, currency, note, buyer) values {', '.join(seeded)}")
    assert shop.load().row_count == 1200
    columns = shop.ask("select note, buyer from raw.shop_orders")
    assert numbers_in("\n".join(str(value) for row in columns for value in row)) == []
    assert shop.ask("select (observed ->> 'rows')::int from ops.load_notes where kind = 'card_number'") == [(1000,)]


def test_masked_text_is_the_same_in_a_sweep_and_another_key_is_told_as_that(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.sell(f"update shop.orders set note = '{VISA}' where order_id = 'o1'")
    shop.load()
    shop.sell("delete from shop.orders where order_id = 'o9'")
    swept = shop.load(8).swept
    assert swept is not None
    assert (swept.rows_missed, swept.rows_deleted) == (0, 1)
    monkeypatch.setenv("TIEOUT_CARD_KEY", SECRET[::-1])
    batch = shop.load(9)
    kinds = {note.split(":")[0] for note in batch.notes}
    assert kinds == {"columns_filled", "card_number"}
    assert batch.swept is not None
    assert batch.swept.rows_missed == 1


def test_without_a_key_cards_are_masked_without_a_token(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TIEOUT_CARD_KEY")
    shop.sell(f"update shop.orders set note = '{VISA}' where order_id = 'o1'")
    shop.load()
    assert shop.ask("select note from raw.shop_orders where order_id = 'o1'") == [("{card 411111******1111}",)]
    assert [record.message for record in caplog.records if "TIEOUT_CARD_KEY is not set" in record.message]


def test_a_card_number_is_in_no_error_of_the_source(shop: Shop, tmp_path: Path) -> None:
    shop.sell(
        f"update shop.orders set currency = 'paid by {VISA}'; alter table shop.orders rename to o; "
        "create view shop.orders as select order_id, currency::bigint as amount_minor, currency, note, buyer, "
        "updated_at from shop.o"
    )
    shop.registry = declared(tmp_path, mode="full")
    with pytest.raises(SnapshotError, match=r'bigint: "paid by \{card 411111\*{6}1111\}"'):
        shop.load()


def test_a_card_number_is_in_no_message_of_a_table_that_is_refused(shop: Shop) -> None:
    shop.sell(
        "alter table shop.orders drop constraint orders_pkey, alter column order_id drop not null; "
        f"update shop.orders set order_id = null, note = '{VISA}', currency = '{VISA}' where order_id = 'o1'"
    )
    batch = shop.load()
    assert batch.outcome == "refused"
    assert VISA not in f"{batch} {everything(shop)}"


def test_a_key_cannot_be_free_text(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="order_id is part of the key, so it cannot be free_text"):
        declared(tmp_path, ", config: {meta: {free_text: true}}")


def test_a_report_with_card_numbers_is_masked_line_by_line_and_noted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEOUT_CARD_KEY", SECRET)
    # The second line's own reference happens to look like a card number, and stays.
    report = adyen({1: [("8535123412341234", 1000), (VISA, 2000), ("8535123412341235", 3000)]})
    report = report.replace("ORDER-8535123412341235", SPACED).replace(f"ORDER-{VISA}", "ORDER-2")
    desk.put("settlement.csv", report)
    assert desk.outcomes() == {"settlement.csv": "loaded"}
    stored = mask(SPACED, CardKey(SECRET))[0]
    rows = desk.ask("select psp_reference, merchant_reference, record from raw.settlement_lines order by line_no")
    assert [row[:2] for row in rows[:3]] == [
        ("8535123412341234", "ORDER-8535123412341234"), (VISA, "ORDER-2"), ("8535123412341235", stored),
    ]  # fmt: skip
    assert [row[2] for row in rows] == [line.replace(SPACED, stored) for line in report.splitlines()[1:]]
    ((file_id,),) = desk.ask("select file_id from ops.files")
    assert desk.ask(
        "select table_name, severity, file_id, observed, message from ops.load_notes where kind = 'card_number'"
    ) == [
        (
            "settlement_lines", "fail", file_id, {"rows": 1, "columns": {"merchant_reference": 1, "record": 1}},
            "1 lines of settlement.csv have a card number in merchant_reference, record: it was masked before it was "
            "stored. Ask the sender to leave card numbers out",
        )
    ]  # fmt: skip


def test_a_statement_with_a_card_number_is_masked(desk: Desk) -> None:
    desk.put("statement.sta", statement(1, 0, 500).replace("TRANSFER", f"CARD {VISA}"))
    assert desk.outcomes() == {"statement.sta": "loaded"}
    ((remittance, record),) = desk.ask("select remittance, record from raw.bank_entries")
    assert "CARD {card 411111******1111}" in remittance
    assert "CARD {card 411111******1111}" in record
    assert desk.ask("select table_name from ops.load_notes where kind = 'card_number'") == [("bank_entries",)]
    assert VISA not in everything(desk)


def test_a_card_number_in_the_place_of_an_amount_is_in_no_reason(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        desk.put("settlement.csv", adyen({1: [("A1", 1000)]}).replace("10.00", f"paid by {VISA}", 1))
        assert desk.outcomes() == {"settlement.csv": "quarantined"}
    ((reason,),) = desk.ask("select reason from ops.files")
    assert "paid by {card 411111******1111}" in reason
    assert VISA not in everything(desk)
    assert VISA not in caplog.text


def test_a_reader_that_breaks_on_a_card_number_does_not_tell_it(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError(f"no such reference: {VISA}")

    monkeypatch.setattr(files, "read", broken)
    desk.put("settlement.csv", adyen({1: [("A1", 1000)]}))
    (outcome,) = desk.run()
    assert outcome.outcome == "failed"
    assert "no such reference: {card 411111******1111}" in str(outcome.reason)
    assert "no such reference: {card 411111******1111}" in caplog.text
    assert VISA not in caplog.text


def test_the_incident_tells_of_the_card_number_and_not_which(shop: Shop) -> None:
    shop.sell(f"update shop.orders set note = 'pay with {VISA} please' where order_id = 'o1'")
    shop.load()
    recorded = record(shop.warehouse, load_notes(shop.warehouse, shop.registry, AS_OF), AS_OF)
    assert recorded.opened == 1
    ((subject, severity, message),) = shop.ask("select subject, severity, message from ops.incidents")
    assert (subject, severity) == ("shop.orders card_number", "fail")
    assert message.startswith("1 rows of shop.orders have a card number in note: it was masked")
    said: list[str] = []
    deliver(shop.warehouse, lambda text, key: said.append(text), AS_OF)
    assert [text for text in said if "shop.orders card_number: 1 rows of shop.orders" in text]
    assert VISA not in f"{said} {everything(shop)}"
    shop.sell("update shop.orders set note = 'paid' where order_id = 'o1'")
    shop.load(1)
    assert record(shop.warehouse, load_notes(shop.warehouse, shop.registry, AS_OF), AS_OF).resolved == 1


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("settlement_lines", "merchant_reference"),
        ("bank_entries", "remittance"),
        ("bank_entries", "customer_reference"),
    ],
)
def test_the_digest_a_row_is_known_by_does_not_tell_the_digits_that_are_hidden(table: str, column: str) -> None:
    kind = proof.ROW_TYPES[table]
    empty = kind(*(None for _ in kind._fields))
    alike = [number for number in (f"555555{hidden:06}4444" for hidden in range(100)) if luhn(number)][:2]
    rows = [empty._replace(**{column: f"paid by {number}"}) for number in (*alike, "1")]
    first, second, other = proof.row_keys(table, proof.block_of(table, rows), pa.array([""] * 3))
    assert (first == second, first == other) == (True, False)

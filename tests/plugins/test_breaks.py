"""Breaks and what people decide about them: what is shown, what is refused at once, and which close takes an action."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection
from typer.testing import CliRunner

from tieout import breaks, close
from tieout.breaks import BreakError, act, describe, list_breaks
from tieout.cli import BAD_INPUT, app
from tieout.postgres import Cluster
from tieout.sources import load_registry

MONDAY, TUESDAY, WEDNESDAY = date(2026, 10, 26), date(2026, 10, 27), date(2026, 10, 28)
AS_OF = datetime(2026, 10, 28, 4, tzinfo=UTC)
# The reader views as tables: what breaks ask of them, without dbt.
VIEWS = """
    create schema rules;
    create table rules.books as select 'global' as book, 'Europe/Amsterdam' as zone;
    create table rules.break_codes (break_code text);
    insert into rules.break_codes values ('UNDER'), ('FEE_VARIANCE'), ('IN_LEDGER_NOT_PSP'), ('IN_PSP_NOT_LEDGER');
    create table published.reconciliation_items (
        close_id bigint, business_date date, item_key text, reconciliation text, side text, item_type text, status text,
        break_code text, exclusion_reason text, rule_id text, group_id text, source_reference text, source_name text,
        source_table text, amount_minor bigint, currency text, clearing_account text, value_date date,
        expected_date date, due_date date, first_seen_business_date date, batch_id bigint, file_id bigint,
        line_no integer, batch_key text, bank_account text);
    create table published.break_register (
        close_id bigint, break_id text, currency text, break_code text, severity text, owner text, reconciliation text,
        source_references text, left_minor bigint, right_minor bigint, clearing_minor bigint,
        age_business_days integer, first_seen_business_date date, reporting_exposure_minor bigint);
    create table published.deferred_events (close_id bigint, event_date date);
    create table published.break_actions (
        close_id bigint, business_date date, action_id bigint, outcome text, refusal text);
    do $$
    declare
        bare record;
    begin
        for bare in select attrelid::regclass as name, attname from pg_attribute
            where attnotnull and attnum > 0 and attrelid in ('raw.settlement_lines'::regclass,
                'raw.payments_captures'::regclass, 'raw.payments_disputes'::regclass,
                'raw.bank_entries'::regclass, 'raw.payments_ledger_entries'::regclass) loop
            execute format('alter table %s alter column %I drop not null', bare.name, bare.attname);
        end loop;
    end $$;
    grant usage on schema rules to controller;
    grant select on all tables in schema published, rules to controller;
    insert into ops.closes (book, business_date, generation, parent_close_id, state, rules_digest, as_of) values
        ('global', '2026-10-26', 1, null, 'published', '', now()),
        ('global', '2026-10-27', 1, 1, 'published', '', now());
    insert into ops.published select book, business_date, close_id from ops.closes;
    insert into ops.files (sha256, name, uri, size_bytes, format, status, seen_at)
        values ('x', 'report.csv', 'file:///landing/report.csv', 1, 'csv', 'loaded', now());
    insert into ops.batches (source, table_name, file_id, row_count, key_hash, as_of)
        values ('files', 'settlement_lines', 1, 1, 1, now());
    insert into ops.batches (source, table_name, interval_start, interval_end, row_count, key_hash, as_of)
        values ('payments', 'captures', now(), now(), 1, 1, now()), ('payments', 'disputes', now(), now(), 1, 1, now());
"""
BY_REFERENCE = ("IN_LEDGER_NOT_PSP", "IN_PSP_NOT_LEDGER")


class Books:
    """Two published closes; items and breaks are put into them one by one."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def item(self, key: str, minor: int, close_id: int = 2, **given: Any) -> str:
        """One item of a close, by default open and alone; its side follows from what it is."""
        kind = key.partition(":")[0]
        ours = kind in ("capture", "chargeback")
        row = {
            "close_id": close_id, "business_date": (MONDAY, TUESDAY)[close_id - 1], "item_key": key,
            "reconciliation": "payment_processor", "side": "left" if ours else "right", "item_type": kind,
            "status": "open", "break_code": BY_REFERENCE[not ours], "source_reference": key.partition(":")[2],
            "source_name": "payments" if ours else "files", "source_table": "captures" if ours else "settlement_lines",
            "amount_minor": minor, "currency": "EUR", "clearing_account": "psp_clearing:adyen", "value_date": MONDAY,
            "batch_id": 2 if ours else 1, "file_id": None if ours else 1, "line_no": None if ours else 7, **given,
        }  # fmt: skip
        self.do(
            f"insert into published.reconciliation_items ({', '.join(row)}) values ({', '.join(['%s'] * len(row))})",
            *row.values(),
        )
        return key

    def register(self) -> None:
        """Make the break register of what is open."""
        self.do("truncate published.break_register")
        self.do(
            "insert into published.break_register select close_id, coalesce(group_id, item_key), currency, "
            "min(break_code), case when min(break_code) = 'UNDER' then 'critical' else 'low' end, "
            "'payments-operations', min(reconciliation), string_agg(source_reference, ' / ' order by side), "
            "coalesce(sum(amount_minor) filter (where side = 'left'), 0), "
            "coalesce(sum(amount_minor) filter (where side = 'right'), 0), "
            "sum(case side when 'left' then amount_minor else -amount_minor end), 1, min(business_date), 1 "
            "from published.reconciliation_items where status = 'open' "
            "group by close_id, coalesce(group_id, item_key), currency"
        )

    def written(self) -> list[tuple[Any, ...]]:
        return self.do("select kind, item_keys, owner, reason, actor from ops.break_actions order by action_id")


@pytest.fixture
def books(warehouse: Connection) -> Books:
    """One matched pair of Monday; open on Tuesday: a capture and two lines alone, a pair, one in dollars."""
    books = Books(warehouse)
    books.do(VIEWS)
    for key in ("capture:matched", "line:matched"):
        books.item(key, 1000, 1, status="matched", break_code=None, group_id="reference:matched", rule_id="reference")
    books.item("capture:lone", 500)
    books.item("line:lone", 500)
    books.item("line:small", 400)
    for key, minor in (("capture:pair", 300), ("line:pair", 299)):
        books.item(key, minor, break_code="UNDER", group_id="reference:pair", rule_id="reference")
    books.item("line:dollars", 500, currency="USD")
    books.register()
    return books


@pytest.fixture
def tieout(books: Books, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run a command as the controller: exit code and all it printed."""
    monkeypatch.setenv("TIEOUT_WAREHOUSE_DSN", cluster.dsn(books.connection.info.dbname, "controller"))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["breaks", *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run


def test_open_breaks_are_listed_the_worst_first(books: Books, tieout: Callable[..., tuple[int, str]]) -> None:
    found = list_breaks(books.connection)
    assert [(each.break_id, each.severity, each.clearing_minor) for each in found] == [
        ("reference:pair", "critical", 1), ("capture:lone", "low", 500), ("line:dollars", "low", -500),
        ("line:lone", "low", -500), ("line:small", "low", -400),
    ]  # fmt: skip
    assert [each.break_id for each in list_breaks(books.connection, code="UNDER")] == ["reference:pair"]
    assert [each.break_id for each in list_breaks(books.connection, severity="critical")] == ["reference:pair"]
    assert list_breaks(books.connection, owner="nobody") == list_breaks(books.connection, reconciliation="other") == []
    code, text = tieout("list")
    assert code == 0
    assert "pair / pair" in text
    assert "2.99" in text
    code, text = tieout("list", "--code", "UDNER")
    assert code == BAD_INPUT
    assert "there is no code 'UDNER': use one of FEE_VARIANCE, IN_LEDGER_NOT_PSP" in text


def test_a_break_is_named_by_as_much_as_tells_it_apart(books: Books) -> None:
    for end in ("1111", "1122", "2"):
        books.item(f"line:0123456789abcdef{end}", 1)
    books.register()
    handles = {each.break_id: each.handle for each in list_breaks(books.connection)}
    assert handles["line:0123456789abcdef1111"] == "line:0123456789abcdef111"
    assert handles["line:0123456789abcdef1122"] == "line:0123456789abcdef112"
    assert handles["line:0123456789abcdef2"] == "line:0123456789abcdef2"
    assert handles["reference:pair"] == "reference:pa"
    registry = load_registry()
    for break_id, handle in handles.items():
        assert {item.break_id for item in describe(books.connection, handle, registry).items} == {break_id}
    with pytest.raises(BreakError, match="3 open breaks begin with 'line:0123': line:0123456789abcdef1111, line"):
        describe(books.connection, "line:0123", registry)


def test_a_break_is_shown_down_to_the_raw_record(books: Books, tieout: Callable[..., tuple[int, str]]) -> None:
    books.do(
        "insert into raw.settlement_lines (batch_id, file_id, line_no, record) "
        "values (1, 1, 7, 'Settled;pair;2.99'), (1, 1, 8, 'another line')"
    )
    books.do(
        "insert into raw.payments_captures (batch_id, capture_id, currency) "
        "values (2, 'pair', 'EUR'), (2, 'pair2', 'EUR'), (3, 'pair', 'EUR')"
    )
    books.do(
        "insert into raw.payments_disputes (batch_id, dispute_id, stage) values (3, 'd1', 'won'), (3, 'd1', 'lost')"
    )
    books.item("chargeback:d1:won", 5, source_reference="d1:won", source_table="disputes", batch_id=3)
    books.item("line:gone", 5, source_table="captures", source_name="payments", batch_id=3, file_id=None)
    books.register()
    found = describe(books.connection, "reference:pair", load_registry())
    assert [item.item_key for item in found.items] == ["capture:pair", "line:pair"]
    records = {key: [text for what, text in lines if what == "record"] for key, lines in found.sources.items()}
    assert records == {"line:pair": ["Settled;pair;2.99"], "capture:pair": ["capture_id pair, currency EUR"]}
    assert ("file", "1 report.csv, line 7") in found.sources["line:pair"]
    won = describe(books.connection, "chargeback:d1:won", load_registry())
    assert [text for what, text in won.sources["chargeback:d1:won"] if what == "record"] == ["dispute_id d1, stage won"]
    code, text = tieout("show", "reference:pair")
    assert (code, "Settled;pair;2.99" in text, "by reference" in text) == (0, True, True)
    code, text = tieout("show", "line:gone")
    assert (code, "raw has no row under this reference" in text) == (0, True)
    code, text = tieout("show", "capture:matched")
    assert (code, "matched at the close of 2026-10-26" in text, "line:matched" in text) == (0, True, True)
    code, text = tieout("show", "nothing")
    assert (code, "`tieout breaks list` shows the open breaks" in text) == (BAD_INPUT, True)


def records(books: Books, key: str) -> list[str]:
    books.register()
    shown = describe(books.connection, key, load_registry()).sources[key]
    return [text for what, text in shown if what == "record"]


def test_a_sum_is_shown_row_by_row(books: Books) -> None:
    books.do(
        "insert into raw.settlement_lines (batch_id, file_id, line_no, processor, processor_account, batch_reference, "
        "net_currency, record) select 1, 1, n, 'adyen', 'shop', case when n < 31 then '4' end, 'EUR', 'line ' || n "
        "from generate_series(1, 31) n"
    )
    books.do(
        "insert into raw.settlement_lines (batch_id, file_id, line_no, processor, processor_account, gross_currency, "
        "record) values (1, 1, 41, 'adyen', 'else', 'EUR', 'priced'), (1, 1, 42, 'adyen', 'else', 'USD', 'dollars'), "
        "(1, 1, 43, 'adyen', 'elsewhere', 'EUR', 'of another account')"
    )
    books.do(
        "insert into raw.bank_entries (batch_id, file_id, line_no, bank_account, booking_date, record) "
        "values (1, 1, 1, 'NL1', '2026-10-26', 'ours'), (1, 1, 2, 'NL1', '2026-10-27', 'tomorrow'), "
        "(1, 1, 3, 'NL2', '2026-10-26', 'of another account'), (2, 1, 4, 'NL1', '2026-10-26', 'of another batch')"
    )
    books.do(
        "insert into raw.payments_ledger_entries (batch_id, ledger_entry_id, bank_account, booked_at) "
        "values (2, 'late', 'NL1', '2026-10-25 23:30+00'), (2, 'next', 'NL1', '2026-10-26 23:30+00')"
    )
    books.item("batch:4", 5, item_type="settlement_batch", line_no=None, batch_key="adyen|shop|4|EUR")
    books.item("batch:none", 5, item_type="settlement_batch", line_no=None, batch_key="adyen|shop|none|EUR")
    books.item("bank_day:1", 5, source_table="bank_entries", line_no=None, bank_account="NL1")
    books.item("book_day:1", 5, source_name="payments", source_table="ledger_entries", batch_id=2, file_id=None,
               bank_account="NL1")  # fmt: skip
    books.item("contract_fee:1", 5, line_no=None, source_reference="adyen:else:processing:EUR:2026-10")
    assert records(books, "contract_fee:1") == ["priced"]
    assert records(books, "batch:4") == [
        *(f"line {number}" for number in range(1, 21)), "... and more: the item is a sum over settlement_lines",
    ]  # fmt: skip
    assert records(books, "batch:none") == ["line 31"]
    assert records(books, "bank_day:1") == ["ours"]
    (late,) = records(books, "book_day:1")
    assert late.startswith("ledger_entry_id late, ")


def test_an_action_is_kept_with_actor_and_reason_and_shown(
    books: Books, tieout: Callable[..., tuple[int, str]]
) -> None:
    pair = ["capture:lone", "line:lone"]
    code, text = tieout("link", *pair, "--reason", "same order, says the desk", "--actor", "ana")
    assert (code, "action 1: link capture:lone, line:lone; the next close takes it" in text) == (0, True)
    code, text = tieout("force", "--item", "line:lone", "capture:lone", "--reason", "it is paid", "--actor", "ben")
    assert (code, "takes the place of action 1 (link by ana)" in text) == (0, True)
    assert tieout("assign", "line:small", "--to", "carla", "--reason", "knows them")[0] == 0
    assert tieout("comment", "line:small", "--text", "asked them; card 4111 1111 1111 1111", "--actor", "ben")[0] == 0
    assert tieout("unlink", "--item", "line:matched", "--reason", "not the same", "--actor", "ana")[0] == 0
    assert books.written()[:2] == [
        ("link", pair, None, "same order, says the desk", "ana"), ("force", pair, None, "it is paid", "ben"),
    ]  # fmt: skip
    assert books.written()[2][:4] == ("assign", ["line:small"], "carla", "knows them")
    assert books.written()[2][4] != ""
    assert "1111 1111" not in books.written()[3][3]
    assert books.written()[4][1] == ["capture:matched", "line:matched"]
    books.do("insert into published.break_actions values (2, '2026-10-27', 1, 'refused', 'action 2 came after it')")
    code, text = tieout("show", "capture:lone")
    assert "action 1: link of 2 item(s) by ana" in text
    assert "refused at the close of 2026-10-27: action 2 came after it" in text
    assert "waits for the next close\n  it is paid" in text


REFUSED = [
    ("link", ["line:lone"], [], "link needs two items at least: this is line:lone alone"),
    ("link", ["line:lone", "line:dollars"], [], "not of one currency: EUR, USD"),
    ("link", ["line:lone", "entry:bank"], [], "not of one reconciliation: payment_processor, processor_bank"),
    ("link", ["line:lone", "line:stripe"], [], "clearing account: psp_clearing:adyen, psp_clearing:stripe"),
    ("link", ["line:lone"], ["capture:matched"], "capture:matched is not open .* matched since that of 2026-10-26"),
    ("link", [], [], "name a break, or items with --item"),
    ("link", ["line:nobody"], [], "no open break is called 'line:nobody'"),
    ("link", [], ["line:nobody"], "no published close knows an item 'line:nobody'"),
    ("force", ["capture:lone", "line:small"], [], "1.00 EUR on psp_clearing:adyen.*needs a write-off"),
    ("force", ["capture:lone", "line:dollars"], [], "5.00 EUR on .*; -5.00 USD on psp_clearing:adyen"),
    ("force", ["reference:pair"], [], r"0\.01 EUR"),
    ("force", ["capture:lone", "entry:bank"], [], "not of one reconciliation"),
    ("exclude", ["line:lone"], [], "-5.00 EUR on psp_clearing:adyen.*needs a write-off"),
    ("exclude", ["capture:lone", "line:stripe"], [], "5.00 EUR on psp_clearing:adyen; -5.00 EUR on psp_clearing:str"),
    ("unlink", ["line:lone"], [], "line:lone is open IN_PSP_NOT_LEDGER .* nothing to take apart"),
    ("unlink", ["reference:pair"], ["line:matched"], "several matches"),
    ("unlink", [], ["capture:stays"], "line:left has left that match: it is open .* since the close of 2026-10-27"),
    ("assign", [], ["capture:matched"], "capture:matched is not open"),
]


def test_what_cannot_be_is_refused_at_once(books: Books) -> None:
    books.item("entry:bank", 500, reconciliation="processor_bank", clearing_account="cash_in_transit:adyen")
    books.item("line:stripe", 500, clearing_account="psp_clearing:stripe")
    for key in ("capture:stays", "line:left"):
        books.item(key, 10, 1, status="matched", break_code=None, group_id="reference:left")
    books.item("line:left", 10)
    books.register()
    for kind, named, item_keys, said in REFUSED:
        owner = "carla" if kind == "assign" else None
        with pytest.raises(BreakError, match=said):
            act(books.connection, kind, "because", "ana", named, item_keys, owner)
    assert books.written() == []


def test_an_action_says_who_and_why(books: Books) -> None:
    for reason, actor, owner, said in (
        (" ", "ana", None, "needs a reason"), ("why", " ", None, "needs an actor"),
        ("why", "ana", "x", "names the new"),
    ):  # fmt: skip
        with pytest.raises(BreakError, match=said):
            act(books.connection, "comment", reason, actor, ["line:lone"], owner=owner)
    with pytest.raises(BreakError, match="names the new owner"):
        act(books.connection, "assign", "why", "ana", ["line:lone"], owner=" ")
    with pytest.raises(ValueError, match="unknown kind"):
        act(books.connection, "forget", "why", "ana", ["line:lone"])
    assert books.written() == []


def test_items_that_come_to_zero_may_be_forced_or_excluded(books: Books) -> None:
    books.item("line:back", -500)
    books.register()
    forced = act(books.connection, "force", "same", "ana", ["capture:lone", "line:lone"])
    assert [item.item_key for item in forced.items] == ["capture:lone", "line:lone"]
    excluded = act(books.connection, "exclude", "their error", "ana", ["line:lone", "line:back"])
    assert [action.action_id for action in excluded.displaces] == [forced.action_id]
    commented = act(books.connection, "comment", "both", "ana", [], ["line:lone", "capture:matched"])
    assert commented.displaces == []


def test_a_link_of_a_whole_break_names_all_its_items(books: Books) -> None:
    linked = act(books.connection, "link", "one order", "ana", ["reference:pair", "line:small"])
    assert [item.item_key for item in linked.items] == ["capture:pair", "line:pair", "line:small"]
    parted = act(books.connection, "unlink", "swapped", "ana", ["reference:pair"])
    assert [item.item_key for item in parted.items] == ["capture:pair", "line:pair"]
    assert [action.kind for action in parted.displaces] == ["link"]


def test_without_a_published_close_there_is_nothing_to_decide(warehouse: Connection) -> None:
    with pytest.raises(BreakError, match="no close is published yet"):
        list_breaks(warehouse)


def test_actions_are_append_only_for_everyone(books: Books) -> None:
    act(books.connection, "comment", "x", "ana", ["line:lone"])
    for change in ("update {} set actor = 'x'", "delete from {}", "truncate {} cascade"):
        with pytest.raises(errors.InsufficientPrivilege, match="break_actions does not change"):
            books.do(change.format("ops.break_actions"))
    assert len(books.written()) == 1


def test_only_a_controller_decides_and_only_the_loader_hands_to_a_close(books: Books, cluster: Cluster) -> None:
    enters = (
        "insert into ops.break_actions (book, kind, item_keys, reason, actor) "
        "values ('global', 'comment', '{a}', 'x', 'ana')"
    )
    hands = "insert into ops.close_actions (close_id, action_id) values (1, 1)"
    act(books.connection, "comment", "x", "ana", ["line:lone"])
    allowed = []
    for role in ("loader", "builder", "publisher", "reader", "controller"):
        for statement in (enters, hands):
            connection = psycopg2.connect(cluster.dsn(books.connection.info.dbname, role))
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                allowed.append((role, statement))
            except errors.InsufficientPrivilege:
                pass
            finally:
                connection.close()
    assert allowed == [("loader", hands), ("controller", enters)]


def test_the_database_takes_no_half_action(books: Books) -> None:
    whole = {"book": "'global'", "kind": "'comment'", "item_keys": "'{a}'", "owner": "null", "reason": "'x'",
             "actor": "'a'", "as_of": "now()"}  # fmt: skip
    insert = "insert into ops.break_actions ({}) values ({})"
    books.do(insert.format(", ".join(whole), ", ".join(whole.values())))
    for columns in (
        {"kind": "'write_off'"}, {"item_keys": "'{}'"}, {"item_keys": "'{a,NULL}'"}, {"reason": "''"}, {"actor": "''"},
        {"owner": "'x'"}, {"kind": "'assign'"}, {"kind": "'assign'", "owner": "''"},
    ):  # fmt: skip
        row = whole | columns
        with pytest.raises(errors.CheckViolation):
            books.do(insert.format(", ".join(row), ", ".join(row.values())))


def taken(books: Books, opened: close.Close) -> list[int]:
    return [each for (each,) in books.do(
        "select action_id from ops.close_actions where close_id = %s order by 1", opened.close_id
    )]  # fmt: skip


def comment(books: Books) -> int:
    return act(books.connection, "comment", "x", "ana", ["line:lone"]).action_id


def test_a_close_takes_every_action_that_no_ancestor_took(books: Books) -> None:
    """Money forgotten: a decision that no close takes, or that one takes twice."""
    books.do("insert into ops.close_batches select 2, batch_id from ops.batches")
    with pytest.raises(close.CloseRefused, match="nothing was loaded"):
        close.open_close(books.connection, "global", WEDNESDAY, AS_OF)
    first = comment(books)
    opened = close.open_close(books.connection, "global", WEDNESDAY, AS_OF)
    assert taken(books, opened) == [first]
    second = comment(books)
    assert taken(books, opened) == [first], "the list is fixed when the close opens"
    again = close.open_close(books.connection, "global", WEDNESDAY, AS_OF)
    assert (again.close_id, taken(books, again)) == (opened.close_id, [first, second])
    close.abort(books.connection, again.close_id)
    assert taken(books, again) == []
    anew = close.open_close(books.connection, "global", WEDNESDAY, AS_OF)
    assert (anew.close_id > again.close_id, taken(books, anew)) == (True, [first, second])
    books.do("update ops.closes set state = 'published' where close_id = %s", anew.close_id)
    books.do("insert into ops.published values ('global', %s, %s)", WEDNESDAY, anew.close_id)
    third = comment_of_wednesday(books)
    following = close.open_close(books.connection, "global", date(2026, 10, 29), AS_OF)
    assert taken(books, following) == [third]


def comment_of_wednesday(books: Books) -> int:
    """What is known stays known, though nothing of it is in the newest close."""
    return act(books.connection, "comment", "still there", "ana", [], ["line:lone"]).action_id


def test_actions_of_another_book_are_left_alone(books: Books) -> None:
    books.do(
        "insert into ops.break_actions (book, kind, item_keys, reason, actor, as_of) "
        "values ('other', 'comment', '{a}', 'x', 'ana', now())"
    )
    assert taken(books, close.open_close(books.connection, "global", WEDNESDAY, AS_OF)) == []


def test_every_kind_is_a_command() -> None:
    done = CliRunner().invoke(app, ["breaks", "--help"])
    assert all(f" {kind} " in done.output for kind in (*breaks.KINDS, "list", "show"))

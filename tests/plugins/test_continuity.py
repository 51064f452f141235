"""Statements follow each other, and files that must not be loaded yet are held until what held them is gone."""

from __future__ import annotations

import itertools
from datetime import date
from typing import Any

import pytest

from tests.plugins.desk import AS_OF, Desk, adyen, statement
from tieout.landing.accounts import DeclaredAccounts, declared_accounts
from tieout.watch import checks

OURS = DeclaredAccounts(frozenset({"GB29NWBK60161331926819"}), frozenset({("adyen", "ShopEU")}))


def balances(desk: Desk) -> list[tuple[Any, ...]]:
    return desk.ask("select opening_minor, closing_minor from raw.bank_statements order by closing_date, statement_no")


def test_a_gap_holds_what_follows_until_it_is_filled(desk: Desk) -> None:
    """FAULTS 51: a statement number is left out, and the balance tells it too."""
    desk.put("1.sta", statement(1, 0, 500))
    desk.put("3.sta", statement(3, 400, 50))
    first, third = desk.run()
    assert (first.outcome, third.outcome) == ("loaded", "held")
    assert "of 2026-10-03 opens at 4.00, and statement" in str(third.reason)
    assert "of 2026-10-01 before it closed at 5.00 (files 1.sta and 3.sta)" in str(third.reason)
    (finding, _) = checks.run_checks(desk.warehouse, desk.registry, AS_OF, [checks.quarantine])
    assert (finding.severity, "3.sta" in finding.subject, "is held" in finding.message) == ("fail", True, True)
    before = desk.traces()
    assert desk.outcomes() == {"1.sta": "known", "3.sta": "held"}
    assert desk.traces() == before
    assert desk.ask("select count(*) from ops.file_actions") == [(0,)]
    desk.put("2.sta", statement(2, 500, -100))
    assert desk.outcomes() == {"1.sta": "known", "2.sta": "loaded", "3.sta": "loaded"}
    assert balances(desk) == [(0, 500), (500, 400), (400, 450)]
    assert desk.ask("select action, actor, reason from ops.file_actions") == [
        ("loaded", "ingest", f"what stood against it is gone: {third.reason}")
    ]  # fmt: skip
    found = checks.run_checks(desk.warehouse, desk.registry, AS_OF, [checks.quarantine])
    assert [finding.severity for finding in found] == ["ok"]


def test_a_number_that_is_left_out_holds_though_the_balance_fits(desk: Desk) -> None:
    desk.put("1.sta", statement(1, 0, 500))
    desk.put("3.sta", statement(3, 500, 50))
    outcomes = {outcome.name: outcome for outcome in desk.run()}
    assert outcomes["3.sta"].outcome == "held"
    assert "has number 3, and statement" in str(outcomes["3.sta"].reason)
    # A statement without a movement fills it.
    desk.put("2.sta", statement(2, 500))
    assert desk.outcomes()["3.sta"] == "loaded"


def test_numbers_begin_again_with_the_year(desk: Desk) -> None:
    desk.put("1.sta", statement(5, 0, 500, day=date(2026, 12, 31)))
    desk.put("2.sta", statement(7, 500, 50, day=date(2027, 1, 4)))
    assert set(desk.outcomes().values()) == {"loaded"}


def test_files_of_one_run_are_taken_in_the_order_of_their_days(desk: Desk) -> None:
    """Whatever their names: the first in the folder is an account's first statement, the others find their place."""
    for name, number, opening, entry in (("d", 1, 0, 500), ("a", 2, 500, -100), ("c", 3, 400, 50), ("b", 4, 450, 1)):
        desk.put(f"{name}.sta", statement(number, opening, entry))
    assert desk.outcomes() == dict.fromkeys(("a.sta", "b.sta", "c.sta", "d.sta"), "loaded")
    assert balances(desk) == [(0, 500), (500, 400), (400, 450), (450, 451)]


def page(number: int, opening: int, *entries: int, last: bool = False) -> str:
    """A page of statement 7; only the first opens it, only the last closes it."""
    text = statement(7, opening, *entries).replace(":28C:00007/001", f":28C:7/{number}")
    if number > 1:
        text = text.replace(":60F:", ":60M:")
    return text if last else text.replace(":62F:", ":62M:")


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))), ids=str)
def test_pages_stand_in_their_own_order_whatever_that_of_their_arrival(desk: Desk, order: tuple[int, ...]) -> None:
    pages = {1: page(1, 0, 500), 2: page(2, 500, -100), 3: page(3, 400, 50, last=True)}
    for number in order:
        desk.put(f"{number}.sta", pages[number])
        desk.run()
    assert set(desk.outcomes().values()) == {"known"}
    desk.put("8.sta", statement(8, 450, 1))
    assert desk.outcomes()["8.sta"] == "loaded"


def test_a_page_that_does_not_fit_those_beside_it_is_held(desk: Desk) -> None:
    desk.put("2.sta", page(2, 500, -100, last=True))
    desk.run()
    desk.put("1.sta", page(1, 0, 499))
    assert desk.outcomes()["1.sta"] == "held"


def test_an_older_statement_that_does_not_fit_is_held(desk: Desk) -> None:
    desk.put("2.sta", statement(2, 500, -100))
    desk.run()
    desk.put("1.sta", statement(1, 0, 499))
    outcomes = {outcome.name: outcome for outcome in desk.run()}
    assert outcomes["1.sta"].outcome == "held"
    assert "opens at 5.00" in str(outcomes["1.sta"].reason)
    assert "closed at 4.99" in str(outcomes["1.sta"].reason)


def test_a_restated_statement_must_fit_its_neighbours_too(desk: Desk) -> None:
    desk.put("1.sta", statement(1, 0, 500))
    desk.put("2.sta", statement(2, 500, -100))
    desk.run()
    desk.put("1 again.sta", statement(1, 0, 300, 100))
    assert desk.outcomes()["1 again.sta"] == "held"
    desk.put("1 anew.sta", statement(1, 0, 300, 200))
    assert desk.outcomes()["1 anew.sta"] == "loaded"


def test_accounts_are_told_apart(desk: Desk) -> None:
    desk.put("1.sta", statement(1, 0, 500))
    desk.put("2.sta", statement(7, 10_000, 1, account="GB00ELSE"))
    assert set(desk.outcomes().values()) == {"loaded"}


def test_a_pair_that_is_loaded_is_not_asked_about_again(desk: Desk) -> None:
    """What somebody released stays; only the new statement's own neighbours count."""
    desk.put("1.sta", statement(1, 0, 500))
    desk.put("3.sta", statement(3, 450, 50))
    _, held = desk.run()
    desk.ask(
        "insert into ops.file_actions (file_id, action, reason, actor, as_of) "
        "values (%s, 'released', 'a holiday', 'me', now()) returning 1", held.file_id,
    )  # fmt: skip
    assert desk.outcomes()["3.sta"] == "loaded"
    desk.put("4.sta", statement(4, 500, 1))
    assert desk.outcomes()["4.sta"] == "loaded"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (statement(1, 0, 500, account="DE99"), "bank account DE99 is not declared as one of ours"),
        (adyen({1: [("A", 100)]}, "ElseEU"), "account ElseEU at adyen is not declared as one of ours"),
    ],
)
def test_a_file_of_another_account_is_held_until_it_is_declared(desk: Desk, content: str, said: str) -> None:
    """FAULTS 54."""
    desk.put("ours.sta", statement(1, 0, 500))
    desk.put("ours.csv", adyen({1: [("B", 100)]}))
    desk.put("theirs", content)
    outcomes = {outcome.name: outcome for outcome in desk.run(accounts=OURS)}
    assert {name: outcome.outcome for name, outcome in outcomes.items()} == {
        "ours.sta": "loaded", "ours.csv": "loaded", "theirs": "held"
    }  # fmt: skip
    assert said in str(outcomes["theirs"].reason)
    assert "add it to seeds/" in str(outcomes["theirs"].reason)
    more = DeclaredAccounts(OURS.bank | {"DE99"}, OURS.processor | {("adyen", "ElseEU")})
    assert [outcome.outcome for outcome in desk.run(accounts=more)] == ["known", "known", "loaded"]


def test_the_projects_own_accounts_are_read() -> None:
    accounts = declared_accounts()
    assert {"NL91ABNA0417164300", "7700012345"} <= accounts.bank
    assert {("adyen", "TieoutEU"), ("paypal", "EZTIEOUTEU")} <= accounts.processor

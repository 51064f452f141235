"""Thousands of small random worlds end in SQL as the plain-Python oracle says, whatever order they arrive in.

``TIEOUT_ORACLE_WORLDS`` sets how many; more than the default are drawn anew each run, from a seed that is printed and
that ``TIEOUT_ORACLE_SEED`` repeats.
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.dbt.oracle.facts import World
from tests.dbt.oracle.matcher import reconcile
from tests.dbt.oracle.rules import Rules, read_rules
from tests.dbt.oracle.warehouse import Built, Matching, compile_models
from tests.dbt.oracle.worlds import worlds
from tests.dbt.worlds import Warehouse
from tieout.sources import default_project

WORLDS = int(os.environ.get("TIEOUT_ORACLE_WORLDS", "4000"))
SEED = int(os.environ.get("TIEOUT_ORACLE_SEED", "1" if WORLDS <= 4000 else str(random.randrange(10**9))))
# A world in so many is judged again in another order.
SHUFFLED_EVERY = 3
SHOWN_MAX = 3
# What batches of another order of arrival are called.
OTHER_BATCHES = {1: 30, 2: 11, 3: 5}

Judged = list[tuple[World, dict[str, Built]]]


@pytest.fixture(scope="module")
def rules() -> Rules:
    return read_rules(default_project() / "seeds")


@pytest.fixture(scope="module")
def matching(deployed: Warehouse) -> Iterator[Matching]:
    """The compiled matcher in a warehouse of its own."""
    made = Matching.over(deployed, compile_models(deployed.runner))
    yield made
    made.connection.close()
    deployed.cluster.execute("drop database oracle with (force)")


@pytest.fixture(scope="module")
def drawn() -> list[World]:
    """The worlds of this run. Drawn one by one and judged together: the SQL runs once for all of them."""
    found: list[World] = []

    @seed(SEED)
    @settings(
        max_examples=WORLDS, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(worlds())
    def collect(world: World) -> None:
        found.append(world)

    collect()
    print(f"{len(found)} worlds of seed {SEED}: TIEOUT_ORACLE_WORLDS={WORLDS} TIEOUT_ORACLE_SEED={SEED}")
    return found


@pytest.fixture(scope="module")
def judged(drawn: list[World], matching: Matching) -> Judged:
    """Every world with its items as the SQL judges them."""
    return list(matching.judged(drawn))


def test_the_sql_judges_as_the_words_say(drawn: list[World], matching: Matching, rules: Rules) -> None:
    different = matching.differences(drawn, rules)
    shown = [str(matching.smallest(found, rules)) for found in different[:SHOWN_MAX]]
    assert not shown, f"{len(different)} of {len(drawn)} worlds differ, for example\n" + "\n\n".join(shown)


def test_order_of_arrival_changes_nothing(judged: Judged, matching: Matching) -> None:
    dice = random.Random(SEED)
    some = judged[::-SHUFFLED_EVERY]
    shuffled = []
    for world, _ in some:
        items = [replace(item, batch_id=OTHER_BATCHES[item.batch_id]) for item in world.items]
        dice.shuffle(items)
        shuffled.append(replace(world, items=tuple(items)))
    again = {id(world): built for world, built in matching.judged(shuffled)}
    for (world, built), other in zip(some, shuffled, strict=True):
        assert outcomes(built) == outcomes(again[id(other)]), world


def outcomes(built: dict[str, Built]) -> dict[str, object]:
    return {key: row.outcome for key, row in built.items()}


def test_every_item_has_an_outcome(judged: Judged) -> None:
    for world, built in judged:
        assert built.keys() == {item.item_key for item in world.items}, world
        for row in built.values():
            assert (row.outcome.status == "matched") == (row.outcome.code is None), world


def test_a_match_comes_to_zero_inside_one_account(judged: Judged) -> None:
    for world, built in judged:
        groups: dict[str, list[Built]] = defaultdict(list)
        for row in built.values():
            if row.group_id is not None:
                groups[row.group_id].append(row)
        for group in groups.values():
            assert len({(row.outcome.status, row.outcome.code, row.clearing_account) for row in group}) == 1, world
            if group[0].outcome.status == "matched":
                assert len({row.currency for row in group}) == 1, world
                assert sum(row.outcome.clearing_minor for row in group) == 0, world


def test_what_is_open_is_what_does_not_clear(judged: Judged) -> None:
    for world, built in judged:
        owed: Counter[tuple[str, str]] = Counter()
        for item in world.items:
            if built[item.item_key].outcome.status != "excluded":
                account = built[item.item_key].clearing_account
                owed[account, item.currency] += item.amount_minor if item.side == "left" else -item.amount_minor
        is_open: Counter[tuple[str, str]] = Counter()
        for row in built.values():
            if row.outcome.status == "open":
                is_open[row.clearing_account, row.currency] += row.outcome.clearing_minor
        assert +owed == +is_open, world
        assert -owed == -is_open, world


def test_the_worlds_hold_every_rule_and_every_code(drawn: list[World], rules: Rules, matching: Matching) -> None:
    ends = [outcome for world in drawn for outcome in reconcile(world, rules).values()]
    codes = Counter(outcome.code for outcome in ends if outcome.status == "open")
    matched = Counter(outcome.rule_id for outcome in ends if outcome.status == "matched")
    with matching.connection.cursor() as cursor:
        cursor.execute("select break_code from rules.break_codes where family <> 'proof'")
        assert [code for (code,) in cursor.fetchall() if codes[code] < 2] == []
    # An account that disagrees never matches: its rule only names.
    names = {rule.rule_id for rule in rules.match_rules} - {"lb_account"} | {"corrected"}
    assert names - matched.keys() == set()

"""Every planted item ends as an open break with the code the sandbox's truth says, and nothing else is open.

Other seeds, sizes and worlds: `make bench-match`.
"""

from __future__ import annotations

import csv
from collections import Counter
from datetime import date

from tests.dbt.worlds import CLOSES, World
from tieout import sandbox

# Trouble that leaves no item open: of files, and of what matches after all.
WITHOUT_ITEMS = {
    "LATE_REPORT", "TRUNCATED_FILE", "DUPLICATE_FILE", "MISSING_RATE", "SPLIT", "NEGATIVE_BATCH", "PAYOUT_BACK",
    "BULK_PAYOUT",
}  # fmt: skip

Item = tuple[str, str, str, str, int, str]


def planted(world: World) -> list[dict[str, str]]:
    with world.truth.open(newline="") as file:
        return list(csv.DictReader(file))


def wanted_at(world: World, day: date) -> Counter[Item]:
    """What the truth says is open at the close of a business date."""
    at = day.isoformat()
    return Counter(
        (r["reconciliation"], r["side"], r["reference"], r["break_code"], abs(int(r["amount_minor"])), r["currency"])
        for r in planted(world)
        if r["opens_on"] <= at and (not r["clears_on"] or at < r["clears_on"])
    )


def found_at(world: World, day: date) -> Counter[Item]:
    """What the published register has open."""
    return Counter(
        world.query(
            "select reconciliation, side, source_reference, break_code, abs(amount_minor), currency "
            "from published.reconciliation_items where status = 'open' and business_date = %s",
            (day,),
        )
    )


def scores(wanted: Counter[Item], found: Counter[Item]) -> dict[str, tuple[int, int, int]]:
    """code -> (planted, found, found under the right code)."""
    right = wanted & found
    codes = {item[3] for item in wanted | found}
    return {
        code: tuple(sum(n for item, n in side.items() if item[3] == code) for side in (wanted, found, right))
        for code in sorted(codes)
    }


def test_the_register_is_the_truth_at_every_close(world: World) -> None:
    assert list(CLOSES) == sandbox.CLOSES, "of accounts that agree in total, the truth knows only the sandbox's closes"
    differences = []
    totals: Counter[str] = Counter()
    hits: Counter[tuple[str, str]] = Counter()
    for day in CLOSES:
        wanted, found = wanted_at(world, day), found_at(world, day)
        assert wanted, f"the truth knows nothing open at {day}: this test would prove nothing"
        differences += [f"{day} missing {item}" for item in sorted((wanted - found).elements())]
        differences += [f"{day} unplanted {item}" for item in sorted((found - wanted).elements())]
        for code, figures in scores(wanted, found).items():
            totals[code] += 1
            for name, figure in zip(("planted", "found", "right"), figures, strict=True):
                hits[code, name] += figure
    print(f"\n{'break code':22}{'planted':>9}{'found':>7}{'precision':>11}{'recall':>8}")
    for code in sorted(totals):
        was, got, right = (hits[code, name] for name in ("planted", "found", "right"))
        print(f"{code:22}{was:9}{got:7}{right / got if got else 0:11.1%}{right / was if was else 0:8.1%}")
    assert differences == []


def test_every_kind_is_planted_and_shown(world: World) -> None:
    shown = {r["kind"] for r in planted(world) if any(r["opens_on"] <= day.isoformat() for day in CLOSES)}
    assert shown == sandbox.KINDS.keys() - WITHOUT_ITEMS


def test_nothing_is_unexplained(world: World) -> None:
    assert world.query("select distinct business_date from published.proof_items order by 1") == [(d,) for d in CLOSES]
    assert world.query("select distinct business_date from published.proof_clearing order by 1") == [
        (d,) for d in CLOSES
    ]
    for proof in ("proof_items", "proof_clearing"):
        assert (
            world.query(f"select business_date, check_name, subject from published.{proof} where not is_proven") == []
        )


def test_each_pair_of_sides_stands_in_the_register_once(world: World) -> None:
    """The register counts each open item in exactly one break."""
    assert world.query(
        "select business_date, sum(item_count) from published.break_register group by 1 order by 1"
    ) == world.query(
        "select business_date, count(*) from published.reconciliation_items where status = 'open' group by 1 order by 1"
    )


def test_trouble_with_files_has_its_outcome(world: World) -> None:
    """The broken file is quarantined with its reason; its whole successor and the file sent twice load once."""
    quarantined = world.query("select name, reason from ops.files where status = 'quarantined'")
    assert len(quarantined) == 1, quarantined
    assert "acct_us" in quarantined[0][0]
    assert world.query("select count(*) - count(distinct sha256) from ops.files") == [(0,)]

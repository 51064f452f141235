"""Holds the published register against the truth, close by close: the confusion matrix, precision and recall.

An item of the truth is told by reconciliation, side, reference, amount and currency; where several are alike, as many
as agree on the code are right and the rest are set against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from tests.bench.match.load import copy_rows
from tests.bench.match.truth import Open

MATCHED, EXCLUDED, MISSING = "MATCHED", "EXCLUDED", "MISSING"
WRONG_KEPT_MAX = 10_000
TRUTH_TABLE = """
create schema bench;
create table bench.truth (
    kind text not null, reconciliation text not null, side text not null, reference text not null, code text not null,
    opens_on date not null, clears_on date, amount_minor bigint not null, currency text not null, note text not null
);
create index on bench.truth (opens_on, clears_on);
"""
FOUND = """
select reconciliation, side, source_reference as reference, break_code as code, abs(amount_minor) as amount_minor,
    currency, count(*) as n
from published.reconciliation_items
where business_date = %(day)s and status = 'open'
group by 1, 2, 3, 4, 5, 6
"""
# What the truth says and what was found, side by side, with the number of those that are alike.
SIDE_BY_SIDE = """
with wanted as (
    select reconciliation, side, reference, code, amount_minor, currency, min(kind) as kind, count(*) as n
    from bench.truth
    where opens_on <= %(day)s and (clears_on is null or clears_on > %(day)s)
        and (%(scope)s::text[] is null or reconciliation = any(%(scope)s))
    group by 1, 2, 3, 4, 5, 6
), found as ({found})
select reconciliation, side, reference, code, amount_minor, currency, wanted.kind, coalesce(wanted.n, 0),
    coalesce(found.n, 0)
from wanted full join found using (reconciliation, side, reference, code, amount_minor, currency)
"""
STATUSES = """
select reconciliation, side, source_reference, abs(amount_minor), currency, max(status)
from published.reconciliation_items
where business_date = %(day)s and status <> 'open' and source_reference = any(%(references)s)
group by 1, 2, 3, 4, 5
"""

Thing = tuple[str, str, str, int, str]


@dataclass
class Score:
    """What the truth says against what was found: (truth code, found code) -> items, summed over closes."""

    matrix: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    wrong_kinds: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    # Items the register calls matched, whatever the truth says of them.
    all_matched: int = 0

    @property
    def matched(self) -> int:
        """Items that are matched and that the truth has nothing against."""
        return self.all_matched - sum(n for (_, found), n in self.matrix.items() if found == MATCHED)

    def of(self, code: str) -> tuple[int, int, int]:
        """(planted, found, found rightly) of a code."""
        planted = sum(n for (truth, _), n in self.matrix.items() if truth == code)
        found = sum(n for (_, got), n in self.matrix.items() if got == code)
        return planted, found, self.matrix[code, code]

    def codes(self) -> list[str]:
        """Every code that was planted or found."""
        return sorted({code for pair in self.matrix for code in pair} - {MATCHED, EXCLUDED, MISSING})

    def add(self, other: Score) -> None:
        """Add another world's score to this."""
        self.matrix.update(other.matrix)
        self.wrong += other.wrong
        self.wrong_kinds.update(other.wrong_kinds)
        self.all_matched += other.all_matched

    def note(self, day: date, thing: Thing, kind: str, truth: str, found: str) -> None:
        """Count an item whose code is not the truth's."""
        self.matrix[truth, found] += 1
        self.wrong_kinds[kind, truth, found] += 1
        if len(self.wrong) < WRONG_KEPT_MAX:
            self.wrong.append(f"{day} {kind or 'unplanted'}: {' '.join(map(str, thing))} is {truth}, found {found}")

    @property
    def is_perfect(self) -> bool:
        """Whether every code has a precision and recall of 1."""
        return all(truth == found for (truth, found), n in self.matrix.items() if n)


def write_truth(cursor: Cursor, rows: Sequence[Open], closes: Sequence[date]) -> None:
    """Add truth to the table that :func:`compare` reads."""
    def when(close: int | None) -> date | None:
        return None if close is None or close >= len(closes) else closes[close]

    names = ("kind", "reconciliation", "side", "reference", "code", "amount_minor", "currency", "note")
    copy_rows(cursor, sql.SQL("bench.truth"), [*names, "opens_on", "clears_on"], (
        {**{name: getattr(row, name) for name in names}, "opens_on": when(row.opens), "clears_on": when(row.clears)}
        for row in rows
    ))  # fmt: skip


def compare(cursor: Cursor, day: date, score: Score) -> None:
    """Add the published register of one close to a score."""
    compare_found(cursor, day, score, FOUND, None, STATUSES)
    cursor.execute(
        "select count(*) from published.reconciliation_items where business_date = %s and status = 'matched'", (day,)
    )
    ((matched,),) = cursor.fetchall()
    score.all_matched += matched


def compare_found(
    cursor: Cursor, day: date, score: Score, found_sql: str, scope: Sequence[str] | None, statuses_sql: str = ""
) -> None:
    """Add what a query found at one close to a score.

    :param found_sql: gives reconciliation, side, reference, code, amount_minor (without sign), currency and their n.
    :param scope: the reconciliations whose truth counts; None for all.
    :param statuses_sql: tells of references what became of their items that are not open, where that is known.
    """
    cursor.execute(SIDE_BY_SIDE.format(found=found_sql), {"day": day, "scope": None if scope is None else list(scope)})
    wanted: dict[Thing, Counter[str]] = {}
    found: dict[Thing, Counter[str]] = {}
    kinds: dict[Thing, str] = {}
    for reconciliation, side, reference, code, amount, currency, kind, wanted_n, found_n in cursor.fetchall():
        score.matrix[code, code] += min(wanted_n, found_n)
        thing = (reconciliation, side, reference, amount, currency)
        if kind:
            kinds[thing] = kind
        if wanted_n > found_n:
            wanted.setdefault(thing, Counter())[code] = wanted_n - found_n
        elif found_n > wanted_n:
            found.setdefault(thing, Counter())[code] = found_n - wanted_n
    statuses: dict[Thing, str] = {}
    if wanted and statuses_sql:
        cursor.execute(statuses_sql, {"day": day, "references": sorted({thing[2] for thing in wanted})})
        statuses = {(r, s, ref, a, c): status.upper() for r, s, ref, a, c, status in cursor.fetchall()}
    for thing in sorted(wanted.keys() | found.keys()):
        ours = sorted(wanted.get(thing, Counter()).elements())
        theirs = sorted(found.get(thing, Counter()).elements())
        for n in range(max(len(ours), len(theirs))):
            truth = ours[n] if n < len(ours) else MATCHED
            got = theirs[n] if n < len(theirs) else statuses.get(thing, MISSING)
            score.note(day, thing, kinds.get(thing, ""), truth, got)


def print_matrix(score: Score) -> None:
    """The whole confusion matrix: a line a truth code, its found codes with their counts."""
    print(f"{'truth':22} found")
    for truth in [*score.codes(), MATCHED]:
        cells = sorted(((n, got) for (was, got), n in score.matrix.items() if was == truth and n), reverse=True)
        if truth == MATCHED:
            cells.insert(0, (score.matched, MATCHED))
        if cells:
            print(f"{truth:22} " + "  ".join(f"{got} {n:,}" for n, got in cells))
    print(f"\n{'code':22}{'planted':>10}{'found':>10}{'right':>10}{'precision':>11}{'recall':>9}")
    for code in score.codes():
        planted, found, right = score.of(code)
        print(f"{code:22}{planted:10,}{found:10,}{right:10,}{ratio(right, found):11.2%}{ratio(right, planted):9.2%}")


def ratio(part: int, whole: int) -> float:
    """``part / whole``; 1 where there is nothing to miss."""
    return part / whole if whole else 1.0


def summary(score: Score) -> Mapping[str, Mapping[str, float]]:
    """code -> planted, found, precision, recall, for the result line."""
    return {
        code: {
            "planted": planted, "found": found, "precision": round(ratio(right, found), 6),
            "recall": round(ratio(right, planted), 6),
        }
        for code in score.codes() for planted, found, right in [score.of(code)]
    }  # fmt: skip

"""Open breaks, what is known of each, and what people decide about them.

A decision is an action: written down with its reason and its actor, never changed, and taken by the next close, which
ends it as applied or refused. What can be told from the published books is refused here at once; the close judges
again. A later action about the same items takes the place of an earlier one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from tieout.card_numbers import redact
from tieout.landing.arrivals import storable
from tieout.money import to_text
from tieout.sources import Registry, Table

BOOK = "global"
# What moves items at a close; the others say something about them.
MOVING = ("link", "unlink", "force", "exclude")
KINDS = (*MOVING, "assign", "comment")
# A break is named by as much of its id as tells it from the others, and by so many characters at least.
HANDLE_LENGTH_MIN = 12
# Raw rows shown of one item: a sum stands for many.
ROWS_SHOWN_MAX = 20
# Items that are sums: which of their batch's rows they are of.
SUMMED = {
    "settlement_batch": "concat_ws('|', processor, processor_account, coalesce(batch_reference, 'none'), net_currency) "
    "= %(batch_key)s",
    "contract_fee": "starts_with(%(source_reference)s, concat_ws(':', processor, processor_account, '')) "
    "and gross_currency = %(currency)s",
    "bank_day": "bank_account = %(bank_account)s and booking_date = %(value_date)s",
    "book_day": "bank_account = %(bank_account)s and "
    "(booked_at at time zone (select zone from rules.books where book = %(book)s))::date = %(value_date)s",
}

# What is said of an action until a published close has taken it.
NOT_TAKEN = "waits for the next close"

ITEM_COLUMNS = (
    "item_key", "close_id", "business_date", "reconciliation", "side", "item_type", "status", "break_code",
    "exclusion_reason", "rule_id", "group_id", "source_reference", "source_name", "source_table", "amount_minor",
    "currency", "clearing_account", "value_date", "expected_date", "due_date", "first_seen_business_date", "batch_id",
    "file_id", "line_no", "batch_key", "bank_account",
)  # fmt: skip


class BreakError(ValueError):
    """What was asked for cannot be done; the message says why, and what to do instead."""


@dataclass(frozen=True)
class Break:
    """One open break and currency of the close that stands; amounts in minor units.

    ``handle`` is the shortest beginning of ``break_id`` that names it.
    """

    break_id: str
    currency: str
    break_code: str
    severity: str
    owner: str
    reconciliation: str
    source_references: str
    left_minor: int
    right_minor: int
    clearing_minor: int
    age_business_days: int
    first_seen: date
    handle: str = ""


@dataclass(frozen=True)
class Item:
    """How one item ended the last close it was in. ``break_id`` is what it is called by while it is open."""

    item_key: str
    close_id: int
    business_date: date
    reconciliation: str
    side: str
    item_type: str
    status: str
    break_code: str | None
    exclusion_reason: str | None
    rule_id: str | None
    group_id: str | None
    source_reference: str
    source_name: str
    source_table: str
    amount_minor: int
    currency: str
    clearing_account: str
    value_date: date
    expected_date: date | None
    due_date: date | None
    first_seen_business_date: date | None
    batch_id: int | None
    file_id: int | None
    line_no: int | None
    batch_key: str | None
    bank_account: str | None

    @property
    def break_id(self) -> str:
        return self.group_id or self.item_key

    @property
    def clearing_minor(self) -> int:
        """What it adds to its clearing account as long as it is open: left adds, right takes away."""
        return self.amount_minor if self.side == "left" else -self.amount_minor

    @property
    def outcome(self) -> str:
        return f"{self.status} {self.break_code or self.exclusion_reason or ''}".strip()


@dataclass(frozen=True)
class Action:
    """One action; ``outcome`` says what became of it, ``refusal`` why it was refused."""

    action_id: int
    kind: str
    item_keys: tuple[str, ...]
    owner: str | None
    reason: str
    actor: str
    acted_at: datetime
    outcome: str
    refusal: str | None


@dataclass(frozen=True)
class Description:
    """Everything known of a break, or of a match: its items, the source of each, and the actions about any of them.

    ``sources`` maps an item key to the lines that tell where the item came from, the raw records among them.
    """

    items: Sequence[Item]
    sources: Mapping[str, Sequence[tuple[str, str]]]
    actions: Sequence[Action]


@dataclass(frozen=True)
class Entered:
    """An action as it was written down; ``displaces`` are earlier ones, not yet taken, about some of its items."""

    action_id: int
    items: Sequence[Item]
    displaces: Sequence[Action]


def list_breaks(
    connection: Connection,
    code: str | None = None,
    owner: str | None = None,
    severity: str | None = None,
    reconciliation: str | None = None,
) -> list[Break]:
    """Open breaks of the close that stands, the most exposed first within their severity.

    :raises BreakError: no close is published, or a filter names something no break could have.
    """
    with connection, connection.cursor() as cursor:
        close_id = _head(cursor)[0]
        cursor.execute(
            "select break_id, currency, break_code, severity, owner, reconciliation, source_references, left_minor, "
            "right_minor, clearing_minor, age_business_days, first_seen_business_date from published.break_register "
            "where close_id = %s order by array_position(array['critical', 'high', 'medium', 'low'], severity), "
            "reporting_exposure_minor desc nulls first, break_id, currency",
            (close_id,),
        )
        breaks = [Break(*row) for row in cursor.fetchall()]
        if code is not None:
            cursor.execute("select break_code from rules.break_codes order by break_code")
            _known("code", code, [row[0] for row in cursor.fetchall()])
    handles = _handles({each.break_id for each in breaks})
    wanted = {"break_code": code, "owner": owner, "severity": severity, "reconciliation": reconciliation}
    return [
        replace(each, handle=handles[each.break_id])
        for each in breaks
        if all(value is None or getattr(each, name) == value for name, value in wanted.items())
    ]


def describe(connection: Connection, named: str, registry: Registry) -> Description:
    """Both sides of a break, or of the match that an item key names, down to the raw records, with all actions.

    :param named: the break's id or the beginning of it, or an item's key.
    :raises BreakError: nothing open is called so, or several things are.
    """
    with connection, connection.cursor() as cursor:
        items = _of_break(cursor, named) or _group_of(cursor, _latest(cursor, [named]).get(named))
        if not items:
            raise BreakError(f"nothing is called {named!r}: `tieout breaks list` shows the open breaks")
        return Description(
            items,
            {item.item_key: _source(cursor, item, registry) for item in items},
            _actions(cursor, [item.item_key for item in items]),
        )


def act(
    connection: Connection,
    kind: str,
    reason: str,
    actor: str,
    break_ids: Sequence[str] = (),
    item_keys: Sequence[str] = (),
    owner: str | None = None,
) -> Entered:
    """Write an action down for the next close, and commit.

    :param break_ids: open breaks, all of whose items it is about; each may be cut short as long as it is one break.
    :param item_keys: items by their own keys; the only way to name what is matched.
    :param owner: who works on it from now on; of ``assign`` alone.
    :raises BreakError: the published books tell that it cannot be applied; nothing is written.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}: use one of {', '.join(KINDS)}")
    if (kind == "assign") != bool(owner and owner.strip()):
        raise BreakError("assign names the new owner, and nothing else does")
    if not reason.strip():
        raise BreakError("an action needs a reason, and a comment a text: it is kept for good")
    if not actor.strip():
        raise BreakError("an action needs an actor: it is kept for good")
    with connection, connection.cursor() as cursor:
        head_id, head_date = _head(cursor)
        items = _named_items(cursor, break_ids, item_keys)
        if kind == "unlink":
            items = _whole_match(cursor, items)
        elif kind != "comment":
            _demand_open(items, head_id, head_date)
        if kind in ("link", "force", "exclude"):
            _demand_fitting(kind, items)
        keys = sorted(item.item_key for item in items)
        pending = [
            action for action in _actions(cursor, keys)
            if kind in MOVING and action.kind in MOVING and action.outcome == NOT_TAKEN
        ]  # fmt: skip
        cursor.execute(
            "insert into ops.break_actions (book, kind, item_keys, owner, reason, actor) "
            "values (%s, %s, %s, %s, %s, %s) returning action_id",
            (BOOK, kind, keys, owner.strip() if owner else None, redact(storable(reason.strip())), actor.strip()),
        )
        ((action_id,),) = cursor.fetchall()
    return Entered(action_id, items, pending)


def _head(cursor: Cursor) -> tuple[int, date]:
    cursor.execute(
        "select close_id, business_date from ops.published where book = %s order by business_date desc limit 1", (BOOK,)
    )
    row = cursor.fetchone()
    if row is None:
        raise BreakError("no close is published yet, so there are no breaks")
    return row[0], row[1]


def _known(what: str, value: str, values: Sequence[str]) -> None:
    if value not in values:
        raise BreakError(f"there is no {what} {value!r}: use one of {', '.join(values)}")


def _handles(break_ids: set[str]) -> dict[str, str]:
    """break id -> the shortest beginning that no other one has; ids in order differ first from their neighbours."""
    ordered = sorted(break_ids)
    found = {}
    for place, break_id in enumerate(ordered):
        shared = 0
        for other in ordered[max(place - 1, 0) : place] + ordered[place + 1 : place + 2]:
            same = next((n for n, (a, b) in enumerate(zip(break_id, other, strict=False)) if a != b), len(other))
            shared = max(shared, same)
        found[break_id] = break_id[: max(shared + 1, HANDLE_LENGTH_MIN)]
    return found


def _items(cursor: Cursor) -> list[Item]:
    return [Item(*row) for row in cursor.fetchall()]


def _of_break(cursor: Cursor, named: str) -> list[Item]:
    """The items of the one open break whose id is this or, failing that, begins with it; none if there is none."""
    close_id = _head(cursor)[0]
    cursor.execute(
        "select distinct break_id from published.break_register where close_id = %s and starts_with(break_id, %s)",
        (close_id, named),
    )
    found = sorted(row[0] for row in cursor.fetchall())
    if named in found:
        found = [named]
    if len(found) > 1:
        raise BreakError(
            f"{len(found)} open breaks begin with {named!r}: {', '.join(found[:5])}"
            f"{', ...' if len(found) > 5 else ''}; name one of them"
        )
    if not found:
        return []
    cursor.execute(
        f"select {', '.join(ITEM_COLUMNS)} from published.reconciliation_items "
        "where close_id = %s and status = 'open' and coalesce(group_id, item_key) = %s order by side, item_key",
        (close_id, found[0]),
    )
    items = _items(cursor)
    if not items:
        raise BreakError(
            f"{found[0]} is an exception from the proof that two people signed for, and has no items: `tieout proof` "
            "shows its line, and it ends when that line holds again"
        )
    return items


def _latest(cursor: Cursor, item_keys: Sequence[str]) -> dict[str, Item]:
    """item key -> how the item ended the last published close it was in; key by key, through the mart's own index."""
    cursor.execute(
        f"select distinct on (found.item_key) {', '.join(f'found.{name}' for name in ITEM_COLUMNS)} "
        "from unnest(%s::text[]) wanted (item_key) cross join ops.published p cross join lateral ("
        "  select * from published.reconciliation_items i"
        "  where i.close_id = p.close_id and i.item_key = wanted.item_key offset 0) found "
        "where p.book = %s order by found.item_key, found.business_date desc",
        (list(item_keys), BOOK),
    )
    return {item.item_key: item for item in _items(cursor)}


def _group_of(cursor: Cursor, item: Item | None) -> list[Item]:
    """All items that share an item's match, as they stood in the close that made it."""
    if item is None or item.group_id is None:
        return [] if item is None else [item]
    cursor.execute(
        f"select {', '.join(ITEM_COLUMNS)} from published.reconciliation_items "
        "where close_id = %s and status = %s and group_id = %s order by side, item_key",
        (item.close_id, item.status, item.group_id),
    )
    return _items(cursor)


def _named_items(cursor: Cursor, break_ids: Sequence[str], item_keys: Sequence[str]) -> list[Item]:
    found: dict[str, Item] = {}
    for named in break_ids:
        of_break = _of_break(cursor, named)
        if not of_break:
            raise BreakError(
                f"no open break is called {named!r}: `tieout breaks list` shows them; "
                "what is matched is named by --item and the key of one of its items"
            )
        found |= {item.item_key: item for item in of_break}
    latest = _latest(cursor, item_keys)
    for item_key in item_keys:
        if item_key not in latest:
            raise BreakError(f"no published close knows an item {item_key!r}: `tieout breaks show` has the keys")
    found |= latest
    if not found:
        raise BreakError("name a break, or items with --item")
    return sorted(found.values(), key=lambda item: (item.side, item.item_key))


def _whole_match(cursor: Cursor, items: Sequence[Item]) -> list[Item]:
    """The whole of the matches that these items are part of.

    :raises BreakError: one of them stands alone, or has left a match since.
    """
    found: dict[str, Item] = {}
    for item in items:
        if item.group_id is None:
            raise BreakError(
                f"{item.item_key} is {item.outcome} since the close of {item.business_date} and shares no match with "
                "another item: there is nothing to take apart"
            )
        found |= {each.item_key: each for each in _group_of(cursor, item)}
    latest = _latest(cursor, list(found))
    for key, item in found.items():
        now = latest[key]
        if now.close_id != item.close_id:
            raise BreakError(f"{key} has left that match: it is {now.outcome} since the close of {now.business_date}")
    if len({item.break_id for item in found.values()}) > 1:
        raise BreakError("these items are of several matches: take each apart by an action of its own")
    return sorted(found.values(), key=lambda item: (item.side, item.item_key))


def _demand_open(items: Sequence[Item], head_id: int, head_date: date) -> None:
    for item in items:
        if item.close_id != head_id or item.status != "open":
            remedy = ": `tieout breaks unlink` takes the match apart" if item.status == "matched" else ""
            raise BreakError(
                f"{item.item_key} is not open at the close of {head_date}: it is {item.outcome} since that of "
                f"{item.business_date}{remedy}"
            )


def _demand_fitting(kind: str, items: Sequence[Item]) -> None:
    """Refuse what the next close would refuse: too few items, items that do not belong together, a difference."""
    if len(items) < 2 and kind != "exclude":
        raise BreakError(f"{kind} needs two items at least: this is {items[0].item_key} alone")
    together = {"reconciliation": {item.reconciliation for item in items}}
    if kind == "link":
        together |= {
            "clearing account": {item.clearing_account for item in items},
            "currency": {item.currency for item in items},
        }
    for what, values in together.items():
        if kind != "exclude" and len(values) > 1:
            raise BreakError(f"the items are not of one {what}: {', '.join(sorted(values))}")
    if kind == "link":
        return
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for item in items:
        sums[item.clearing_account, item.currency] += item.clearing_minor
    off = [
        f"{to_text(minor, currency)} {currency} on {account}"
        for (account, currency), minor in sorted(sums.items())
        if minor
    ]
    if off:
        raise BreakError(
            f"the items do not come to zero: {'; '.join(off)}. {kind.capitalize()} books nothing, and a difference has "
            "to be booked: it needs a write-off. `tieout breaks link` keeps the items together as one break"
        )


def _actions(cursor: Cursor, item_keys: Sequence[str]) -> list[Action]:
    """Every action about any of these items, oldest first, and what became of it."""
    cursor.execute(
        "select a.action_id, a.kind, a.item_keys, a.owner, a.reason, a.actor, a.acted_at, "
        "  coalesce(ended.outcome || ' at the close of ' || ended.business_date, %s), ended.refusal "
        "from ops.break_actions a left join published.break_actions ended using (action_id) "
        "where a.book = %s and a.item_keys && %s order by a.action_id",
        (NOT_TAKEN, BOOK, list(item_keys)),
    )
    return [Action(row[0], row[1], tuple(row[2]), *row[3:]) for row in cursor.fetchall()]


def _source(cursor: Cursor, item: Item, registry: Registry) -> list[tuple[str, str]]:
    """Where an item came from, as (what, text): file and line, or batch of a snapshot, and its raw rows."""
    found = [("source", f"{item.source_name}.{item.source_table} {item.source_reference}")]
    if item.file_id is not None:
        cursor.execute("select name, uri from ops.files where file_id = %s", (item.file_id,))
        for name, uri in cursor.fetchall():
            found.append(("file", f"{item.file_id} {name}, line {item.line_no}" if item.line_no else name))
            found.append(("seen at", uri))
    if item.batch_id is not None:
        found.append(("batch", str(item.batch_id)))
    table = next((t for t in registry.tables if (t.source, t.name) == (item.source_name, item.source_table)), None)
    rows = _raw_rows(cursor, item, table) if table is not None and item.batch_id is not None else []
    found += [("record", _spelled(row)) for row in rows[:ROWS_SHOWN_MAX]]
    if len(rows) > ROWS_SHOWN_MAX:
        found.append(("record", f"... and more: the item is a sum over {item.source_table}"))
    if not rows:
        found.append(("record", "none: raw has no row under this reference"))
    return [(what, redact(text)) for what, text in found]


def _raw_rows(cursor: Cursor, item: Item, table: Table) -> list[dict[str, Any]]:
    """The rows an item was made of, of the batch that brought it; one more than are shown when there are more."""
    where: sql.Composable
    if item.item_type in SUMMED:
        where = sql.SQL(SUMMED[item.item_type])
    elif item.file_id is not None:
        where = sql.SQL("abs(line_no) = abs(%(line_no)s)")
    else:
        # The reference of a stage or a leg begins with the key of its row.
        key = sql.SQL(", ").join(sql.Identifier(name) for name in table.key)
        where = sql.SQL("starts_with(%(source_reference)s || ':', concat_ws(':', {}) || ':')").format(key)
    if item.file_id is not None:
        where += sql.SQL(" and file_id = %(file_id)s order by line_no")
    statement = sql.SQL("select {} from {} where batch_id = %(batch_id)s and {} limit {}").format(
        sql.SQL(", ").join(sql.Identifier(name) for name in table.column_names),
        sql.Identifier("raw", table.raw_table), where, sql.Literal(ROWS_SHOWN_MAX + 1),
    )  # fmt: skip
    cursor.execute(statement, {**asdict(item), "book": BOOK})
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _spelled(row: Mapping[str, Any]) -> str:
    """A row as text: the record as the file had it, else every column that has a value."""
    if row.get("record"):
        return str(row["record"])
    return ", ".join(f"{name} {value}" for name, value in row.items() if value not in (None, ""))

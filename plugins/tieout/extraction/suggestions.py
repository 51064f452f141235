"""What a table of a payment system probably is: its key, cursor, mode, amounts, and where people are in it.

Names and types say much and prove little: every suggestion that is a guess carries its reason and what to check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from tieout.extraction.catalogue import CatalogueError, Relation, SourceColumn
from tieout.sources import INTEGER_TYPES


def _words(*words: str, end: str = "(?:_|$)") -> re.Pattern[str]:
    return re.compile(rf"(?:^|_)(?:{'|'.join(words)}){end}")


AT_END = "$"
UPDATED = _words("updated?", "modified", "modification", "changed?", "mtime", "last_(?:updated?|modified|changed?)")
CREATED = _words("created?", "creation", "inserted", "ctime")
MOMENT = _words("at", "on", "ts", "time", "date", "timestamp", "datetime", end=AT_END)
# A moment that may lie ahead, or long ago, says nothing about how fresh the table is.
NOT_NOW = _words(
    "valid", "until", "expir(?:y|es|ed|ation)", "due", "scheduled", "planned", "birth(?:day|date)?", "dob", "deleted",
    "end(?:s|ed)?", "starts?", "next",
)  # fmt: skip
STATE = _words(
    "status", "state", "stage", "phase", "step", "version", "revision", "balance", "attempts", "retries", "locked"
)  # fmt: skip
STATE_FLAG = _words("is", "has")
MINOR = _words("minor", "cents?", "pence", "subunits?", end=AT_END)
MONEY = _words(
    "amounts?", "amt", "fees?", "gross", "net", "balance", "price", "cost", "tax", "vat", "tip", "total", "subtotal",
    "commission", "surcharge", "discount", end=AT_END,
)  # fmt: skip
CURRENCY = _words("currency", "ccy", "curr", "currency_(?:code|iso)", end=AT_END)
PERSON = _words(
    "e_?mail", "mail", "phone", "mobile", "msisdn", "fax", "(?:first|last|full|given|family|middle|maiden)_?name",
    "surname", "(?:customer|buyer|payer|payee|shopper|contact|owner|beneficiary|recipient|sender)_name", "user_?name",
    "card_?holder", "holder", "beneficiary", "recipient", "counterparty", "address", "street", "city", "post_?code",
    "postal_?code", "zip(?:_?code)?", "iban", "bban", "account_?(?:number|no|holder)", "bank_?account", "sort_?code",
    "routing_?number", "iin", "bin", "last_?(?:4|four)", "expiry", "exp_?(?:month|year)", "token", "tax_?id",
    "national_?id", "ssn", "passport", "dob", "birth(?:_?da(?:y|te))?", "gender", "nationality", "ip", "device_?id",
    "fingerprint", "user_?agent", "latitude", "longitude",
)  # fmt: skip
PERSON_TABLE = _words(
    "customers?", "users?", "people", "persons?", "contacts?", "employees?", "beneficiar(?:y|ies)", "pay(?:er|ee)s?",
    "(?:card|account)_?holders?", "shoppers?", "buyers?", "members?",
)  # fmt: skip
OF_ANY_TYPE = _words("dob", "birth(?:_?da(?:y|te))?", "latitude", "longitude")
CARD_NUMBER = _words("pan", "card_?(?:number|no|num)", "primary_account_number", end=AT_END)
# What nobody needs in a warehouse, and what card schemes forbid to store.
CREDENTIAL = _words(
    "password", "passwd", "pwd", "(?:client_)?secret", "(?:api|private)_?key", "(?:access|refresh|session)_?token",
    "cvv2?", "cvc2?", "cav2", "pin", "pin_?block", "otp", "track_?[12]?_?data",
    end="(?:_(?:hash|hashed|digest|encrypted|salt))?$",
)  # fmt: skip
FREE_TEXT = _words(
    "notes?", "comments?", "memo", "remarks?", "description", "message", "remittance", "narrative", "narration", "text",
    "free_?text", "details?", "purpose", "body", "subject", "instructions?", "feedback", "reason", "descriptor",
    "unstructured", end=r"(?:_(?:text|info|information|lines?|\d+))?$",
)  # fmt: skip
CONFIDENTIAL_TABLE = _words("fees?", "prices?", "pricing", "tariffs?", "contracts?", "salar(?:y|ies)", "payroll")
# These have no index and no row version of their own.
KEYLESS = ("view", "foreign table")
# What can hold a moment, the best first.
MOMENT_TYPES = ("timestamptz", "timestamp", "date")
DOCUMENT_TYPES = ("json", "jsonb", "xml", "bytea")
TEXT_TYPES = ("text", "varchar", "character")
MASKED_TYPES = ("text", "varchar")
FRACTION_TYPES = ("numeric", "double precision", "real", "money")


@dataclass
class Suggestion:
    """What to declare for one relation.

    ``why`` maps a setting (key, cursor, mode, ...) or ``column NAME`` to the reason of a guess and what to check;
    ``dropped`` are columns that are not declared, with the reason; ``remarks`` are for the summary.
    """

    relation: Relation
    columns: tuple[SourceColumn, ...]
    key: tuple[str, ...]
    cursor: str
    mode: str
    immutable: tuple[str, ...] = ()
    amounts: dict[str, str] = field(default_factory=dict)
    classification: str = "internal"
    personal: tuple[str, ...] = ()
    free_text: tuple[str, ...] = ()
    why: dict[str, str] = field(default_factory=dict)
    dropped: tuple[tuple[str, str], ...] = ()
    remarks: list[str] = field(default_factory=list)

    @property
    def not_null(self) -> frozenset[str]:
        """Columns to declare not null: those of the source, and the key whatever the source says."""
        return frozenset(column.name for column in self.columns if column.not_null) | frozenset(self.key)


@dataclass(frozen=True)
class LeftOut:
    """A relation that is not declared, and why, with the remedy."""

    relation: Relation
    reason: str


def suggest(relation: Relation, key: tuple[str, ...] = ()) -> Suggestion | LeftOut:
    """What to declare for a table or view, or why it cannot be declared.

    :param key: the key columns, where a person has named them.
    :raises CatalogueError: one of them is no column of the relation.
    """
    for name in key:
        if relation.column(name) is None:
            raise CatalogueError(f"{relation.name} has no column {name!r} to be its key")
    if relation.problem:
        return LeftOut(relation, relation.problem)
    columns, dropped = _kept(relation, key)
    declared = {column.name for column in columns}
    chosen, why_key = (key, f"as asked for. {_check_key(key)}") if key else _key(relation, declared)
    missing = [name for name in chosen if name not in declared]
    if missing:
        column = relation.column(missing[0])
        return LeftOut(relation, f"its key has {missing[0]}, which cannot be declared: {column and column.problem}")
    if not chosen:
        return LeftOut(
            relation,
            "nothing says what makes a row unique: give it a primary key, or name the columns with "
            f"--key {relation.name}=COLUMN,...",
        )
    cursor, why_cursor = _cursor(relation, columns)
    if cursor is None:
        return LeftOut(
            relation, "it has no moment or date, so nobody could tell how fresh it is: offer one through a view"
        )
    suggestion = Suggestion(relation, columns, chosen, cursor, "incremental", dropped=tuple(dropped))
    suggestion.why.update({"key": why_key, "cursor": why_cursor})
    suggestion.mode, suggestion.why["mode"] = _mode(relation, columns, chosen, cursor)
    _add_immutable(suggestion)
    _add_amounts(suggestion)
    _add_people(suggestion)
    suggestion.why = {setting: reason for setting, reason in suggestion.why.items() if reason}
    if relation.has_children:
        suggestion.remarks.append("child tables come with it: its key holds for each of them alone")
    if relation.deletes and suggestion.mode != "full":
        suggestion.remarks.append(f"rows are deleted here ({relation.deletes} counted)")
    return suggestion


def _kept(relation: Relation, key: tuple[str, ...]) -> tuple[tuple[SourceColumn, ...], list[tuple[str, str]]]:
    """The columns to declare, and (name, reason) of those that are left out."""
    kept, dropped = [], []
    needed = {*key, *(relation.unique_keys[0] if relation.unique_keys else ())}
    for column in relation.columns:
        if column.problem:
            dropped.append((column.name, column.problem))
        elif CREDENTIAL.search(column.name) and column.name not in needed:
            dropped.append((column.name, "it looks like a credential, which belongs in no warehouse"))
        else:
            kept.append(column)
    return tuple(kept), dropped


def _key(relation: Relation, declared: set[str]) -> tuple[tuple[str, ...], str]:
    if relation.has_primary_key:
        return relation.unique_keys[0], ""
    never_null = {column.name for column in relation.columns if column.not_null}
    for names in relation.unique_keys:
        if never_null.issuperset(names) and declared.issuperset(names):
            return names, "there is no primary key; a unique index holds for these columns, and none may be null"
    if relation.kind == "materialized view" and relation.unique_keys:
        names = relation.unique_keys[0]
        return names, "a unique index says so; a materialized view cannot say that they are never null: check that"
    if relation.kind in (*KEYLESS, "materialized view"):
        stem = re.sub(r"^v_|_view$|_v$", "", relation.name)
        singular = re.sub(r"s$", "", re.sub(r"ies$", "y", stem))
        for name in ("id", f"{stem}_id", f"{singular}_id", f"{relation.name}_id"):
            if name in declared:
                return (name,), f"by its name, a {relation.kind} has no key. {_check_key((name,))}"
    return (), ""


def _check_key(names: tuple[str, ...]) -> str:
    listed = ", ".join(names)
    return f"Check that it is unique and never null: select {listed} ... group by {listed} having count(*) > 1"


def _cursor(relation: Relation, columns: tuple[SourceColumn, ...]) -> tuple[str | None, str]:
    """The column that says how fresh a row is. No row is lost by a wrong one: rows are found by transaction."""
    ranked = []
    for position, column in enumerate(columns):
        kind = _base(column)
        if kind in MOMENT_TYPES:
            name = column.name
            meaning = next((rank for rank, one in enumerate((UPDATED, CREATED, MOMENT)) if one.search(name)), 3)
            not_now = bool(NOT_NOW.search(name))
            rank = (not_now, not column.not_null, meaning, MOMENT_TYPES.index(kind), name not in relation.indexed)
            ranked.append((*rank, position, column))
    if not ranked:
        return None, ""
    not_now, _, meaning, _, not_indexed, _, column = min(ranked)
    kind = _base(column)
    reasons = [
        *(["it may lie ahead or long ago, and the table has no better one"] if not_now else []),
        *(["no column says when a row last changed, this one says when it was made"] if meaning in (1, 2) else []),
        *(["the only kind of moment here"] if meaning == 3 and not not_now else []),
        *(["rows may have none"] if not column.not_null else []),
        *(["it has no time zone and is read as UTC"] if kind == "timestamp" else []),
        *(["it is a date, so freshness is told to the day"] if kind == "date" else []),
        *(["no index starts with it"] if not_indexed and relation.kind not in KEYLESS else []),
    ]
    if not reasons:
        return column.name, ""
    return column.name, f"{'; '.join(reasons)}. Check that it shows how fresh a row is: only freshness hangs on it"


def _mode(
    relation: Relation, columns: tuple[SourceColumn, ...], key: tuple[str, ...], cursor: str
) -> tuple[str, str]:
    if relation.kind in KEYLESS:
        return "full", f"a {relation.kind} can be read in no other way: every batch holds all of its rows"
    if relation.kind == "materialized view":
        return "full", "a refresh writes every row anew; incremental is for one that is refreshed concurrently"
    for column in columns:
        if UPDATED.search(column.name):
            return "incremental", ""
    changing = [
        column.name
        for column in columns
        if column.name not in key
        and (
            STATE.search(column.name)
            or (_base(column) == "boolean" and STATE_FLAG.search(column.name))
            or (_base(column) in MOMENT_TYPES and not column.not_null and column.name != cursor)
        )
    ]
    if changing:
        return "incremental", ""
    if relation.updates:
        return "incremental", f"no column shows a change, but the server has counted {relation.updates} updates"
    return "append", (
        "nothing here looks as if a row changed once written, and the server has counted no update. Check with the "
        "system's owners: a row of an append table that changes is reported; if rows may change, say incremental"
    )


def _add_immutable(suggestion: Suggestion) -> None:
    if suggestion.mode == "append":
        return
    for column in suggestion.columns:
        if CREATED.search(column.name) and column.not_null and _base(column) in MOMENT_TYPES:
            suggestion.immutable = (column.name,)
            suggestion.why["immutable"] = (
                "if it changes, the key was used again. Add whatever else never changes for a key"
            )
            return


def _add_amounts(suggestion: Suggestion) -> None:
    currencies = [
        (position, column.name)
        for position, column in enumerate(suggestion.columns)
        if CURRENCY.search(column.name) and _base(column) in TEXT_TYPES
    ]
    for position, column in enumerate(suggestion.columns):
        is_minor, is_money = MINOR.search(column.name), MONEY.search(column.name)
        if not (is_minor or is_money):
            continue
        if _base(column) in FRACTION_TYPES:
            suggestion.why[f"column {column.name}"] = (
                f"money as {column.seen_as}: no control total covers it, as amounts are whole minor units. Offer "
                "bigint minor units through a view or a generated column"
            )
            suggestion.remarks.append(f"{column.name}: {column.seen_as} is no minor unit")
            continue
        if column.data_type not in INTEGER_TYPES:
            continue
        currency, is_near = _currency_of(column.name, position, currencies)
        if currency is None:
            suggestion.why[f"column {column.name}"] = (
                "looks like an amount, but no column holds its currency: no control total covers it. Offer the "
                "currency through a view"
            )
            suggestion.remarks.append(f"{column.name}: no currency")
            continue
        suggestion.amounts[column.name] = currency
        doubts = [suggestion.why.get("amounts", "")]
        if not is_minor:
            doubts.append(f"{column.name} is a whole number named like money: check that it counts minor units")
        if not is_near:
            doubts.append(f"{currency} is the nearest currency to {column.name}: check that it is its own")
        suggestion.why["amounts"] = "; ".join(filter(None, doubts))


def _currency_of(name: str, position: int, currencies: list[tuple[int, str]]) -> tuple[str | None, bool]:
    """The currency column of an amount, and whether its name says so: sell_currency of sell_amount_minor."""
    best: tuple[tuple[int, int], str] | None = None
    for place, candidate in currencies:
        stem = CURRENCY.sub("", candidate)
        fit = 0 if stem else 1
        if stem and (name == stem or name.startswith(f"{stem}_")):
            fit = 2 + len(stem)
        ranked = ((fit, -abs(place - position)), candidate)
        if best is None or ranked[0] > best[0]:
            best = ranked
    return (best[1], best[0][0] > 0) if best else (None, False)


def _add_people(suggestion: Suggestion) -> None:
    name = suggestion.relation.name
    personal, free_text = [], []
    for column in suggestion.columns:
        kind = _base(column)
        said = suggestion.why.setdefault
        is_card_number = bool(CARD_NUMBER.search(column.name)) and kind in (*TEXT_TYPES, "bigint", "numeric")
        if is_card_number or _is_personal(column, name):
            personal.append(column.name)
        if is_card_number:
            said(f"column {column.name}", "looks like a card number: free_text keeps its first six and last four only")
        if FREE_TEXT.search(column.name) and kind in TEXT_TYPES:
            said(f"column {column.name}", "people type here: card numbers are looked for and masked (free_text)")
            free_text.append(column.name)
        elif is_card_number:
            free_text.append(column.name)
        if kind in DOCUMENT_TYPES:
            said(f"column {column.name}", "may hold anything, people and card numbers too, and is not masked: needed?")
            suggestion.remarks.append(f"{column.name}: {kind} is not masked")
    suggestion.personal = tuple(personal)
    for column in suggestion.columns:
        # A key stays as it is: a masked one would be another.
        if column.name in free_text and (_base(column) not in MASKED_TYPES or column.name in suggestion.key):
            what = "a part of the key" if column.name in suggestion.key else column.seen_as
            suggestion.why[f"column {column.name}"] = (
                f"people type here, or it is a card number, but only text without a fixed length is masked, not {what}"
            )
            suggestion.remarks.append(f"{column.name}: {what} is not masked")
            free_text.remove(column.name)
    # A mask may be longer than what the source has room for.
    suggestion.columns = tuple(
        replace(column, data_type="text") if column.name in free_text else column for column in suggestion.columns
    )
    suggestion.free_text = tuple(free_text)
    if personal:
        suggestion.classification = "personal"
        suggestion.why["classification"] = (
            f"by name and type of {', '.join(personal)}; internal if they are of companies or of our own"
        )
    elif CONFIDENTIAL_TABLE.search(name):
        suggestion.classification = "confidential"
        suggestion.why["classification"] = "by its name: what was agreed with somebody"


def _is_personal(column: SourceColumn, table: str) -> bool:
    kind = _base(column)
    if kind == "inet":
        return True
    if kind in (*MOMENT_TYPES, "boolean", *FRACTION_TYPES) and not OF_ANY_TYPE.search(column.name):
        return False
    return bool(PERSON.search(column.name)) or (column.name == "name" and bool(PERSON_TABLE.search(table)))


def _base(column: SourceColumn) -> str:
    return (column.data_type or "").partition("(")[0].strip()

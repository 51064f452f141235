"""The matcher of the rules' words: one reconciliation at a time, item by item, nothing clever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import product

from tests.dbt.oracle.facts import LEFT, RIGHT, Contract, Item, Outcome, World
from tests.dbt.oracle.rules import ONE_DAY, Rule, Rules, Tolerance

# Any network, any market: what a contract says that is not made for one.
ANY = "*"
# Lines that our ledger never expects.
REVERSALS = {"refund_reversal": "REFUND_REVERSED", "chargeback_reversal": "CHARGEBACK_REVERSED"}


def reconcile(world: World, rules: Rules) -> dict[str, Outcome]:
    """Every item of a world with the one outcome it ends the close with: item key -> outcome."""
    outcomes: dict[str, Outcome] = {}
    for item in world.items:
        if item.exclusion_reason is not None:
            outcomes[item.item_key] = Outcome("excluded", item.exclusion_reason)
        elif item.value_date > world.business_date:
            outcomes[item.item_key] = Outcome("excluded", "FUTURE_DATED")
    explained = [item for item in world.items if item.item_key not in outcomes]

    for name in rules.reconciliations:
        items = [item for item in explained if item.reconciliation == name]
        outcomes.update(Matcher(world, rules, name).match(items))
    return {item.item_key: _own(item, outcomes[item.item_key], world.business_date) for item in world.items}


def _own(item: Item, outcome: Outcome, business_date: date) -> Outcome:
    """The outcome with what is the item's own: its clearing amount, and when its break was first seen and changed."""
    outcome = replace(outcome, clearing_minor=0 if outcome.status == "excluded" else clearing_minor([item]))
    if outcome.status != "open":
        return outcome
    changed = outcome.code != item.carried_break_code or item.last_changed_business_date is None
    return replace(
        outcome,
        first_seen_business_date=item.first_seen_business_date or business_date,
        last_changed_business_date=business_date if changed else item.last_changed_business_date,
    )


class Matcher:
    """One reconciliation of one close. Sides meet inside a clearing account and nowhere else."""

    def __init__(self, world: World, rules: Rules, name: str) -> None:
        self.world = world
        self.rules = rules
        self.terms = rules.reconciliations[name]
        self.passes = rules.valid(name, world.business_date)
        self.outcomes: dict[str, Outcome] = {}
        self.paid_together: dict[tuple[str, str], str] = {}

    def match(self, items: Sequence[Item]) -> dict[str, Outcome]:
        """Settle corrections, then apply the rules in order; what is left is alone."""
        self._correct(items)
        self.paid_together = _paid_together(items)
        # A correction that does not settle stays a break of its own, and the rest is matched as if it were not there.
        for item in self._undecided(items):
            if item.intrinsic_code is not None:
                self.outcomes[item.item_key] = Outcome("open", item.intrinsic_code)
        apply: dict[str, Callable[[Rule, Sequence[Item]], None]] = {
            "identity": self._identity, "unique": self._unique, "group_total": self._group_total,
            "total": self._total,
        }  # fmt: skip
        for rule in self.passes:
            apply[rule.pairing](rule, self._undecided(items))
        for item in self._undecided(items):
            code = self._left_alone(item) if item.side == LEFT else self._right_alone(item)
            self.outcomes[item.item_key] = Outcome("open", code)
        for item in items:
            found = self.outcomes[item.item_key]
            if item.side == LEFT and item.amount_minor == 0 and not found.group:
                self.outcomes[item.item_key] = Outcome("excluded", "NOTHING_TO_PAY", found.rule_id)
        return self.outcomes

    def _undecided(self, items: Iterable[Item]) -> list[Item]:
        return [item for item in items if item.item_key not in self.outcomes]

    def _decide(self, items: Iterable[Item], outcome: Outcome) -> None:
        for item in items:
            self.outcomes[item.item_key] = outcome

    # -- the ways to pair

    def _correct(self, items: Sequence[Item]) -> None:
        """A reference that comes to zero with its corrections is matched, or else corrections that do by themselves."""
        groups: dict[tuple[str, str, str], list[Item]] = defaultdict(list)
        for item in items:
            if item.strong_key is not None:
                groups[item.clearing_account, item.strong_key, item.currency].append(item)
        for group in groups.values():
            corrections = [item for item in group if item.correction_reason is not None]
            settled = next((some for some in (group, corrections) if len(some) > 1 and clearing_minor(some) == 0), [])
            if corrections:
                self._decide(settled, Outcome("matched", None, "corrected", keys_of(settled)))

    def _identity(self, rule: Rule, items: Sequence[Item]) -> None:
        """Whatever shares the key belongs together; how it differs is named afterwards."""
        for group in self._by_key(rule, items):
            left, right = sides(group)
            if not left or not right:
                continue
            may_repeat = rule.names_event and len(left) == 1 and len(right) > 1
            if may_repeat and is_one_currency(group) and clearing_minor(group) != 0:
                exact = [line for line in right if line.amount_minor == left[0].amount_minor]
                if exact:
                    first = min(exact, key=_order)
                    self._name(rule, [left[0], first])
                    for line in right:
                        if line is not first:
                            self.outcomes[line.item_key] = Outcome("open", self._left_over(line), rule.rule_id)
                    continue
            self._name(rule, group)

    def _total(self, rule: Rule, items: Sequence[Item]) -> None:
        """Whatever shares the key; right items that each come to the whole of the left repeat the first of them."""
        for group in self._by_key(rule, items):
            left, right = sides(group)
            if not left or not right:
                continue
            whole = sum(item.amount_minor for item in left)
            is_repeated = len(right) > 1 and whole != 0 and all(line.amount_minor == whole for line in right)
            if not is_repeated or not is_one_currency(group):
                self._name(rule, group)
                continue
            first = min(right, key=_order)
            self._name(rule, [*left, first])
            for line in right:
                if line is not first:
                    self.outcomes[line.item_key] = Outcome("open", self._left_over(line), rule.rule_id)

    def _unique(self, rule: Rule, items: Sequence[Item]) -> None:
        """One with one inside the window; whoever has, or is, one of several candidates is ambiguous."""
        for group in self._by_key(rule, items):
            left, right = sides(group)
            candidates: dict[str, list[Item]] = defaultdict(list)
            for ours in left:
                for theirs in right:
                    days = self.rules.days_between(_calendar(ours), ours.value_date, theirs.value_date)
                    if ours.currency == theirs.currency and days <= rule.window_business_days:
                        candidates[ours.item_key].append(theirs)
                        candidates[theirs.item_key].append(ours)
            for item in group:
                found = candidates[item.item_key]
                if not found:
                    continue
                if len(found) > 1 or len(candidates[found[0].item_key]) > 1:
                    self.outcomes[item.item_key] = Outcome("open", "AMBIGUOUS", rule.rule_id)
                elif item.side == LEFT:
                    self._name(rule, [item, found[0]])

    def _group_total(self, rule: Rule, items: Sequence[Item]) -> None:
        """All under the key, two items at least, once both sides come to the same total in one currency."""
        for group in self._by_key(rule, items):
            # A side without items comes to zero. Of a pool that would hide payouts that never came: there a credit is
            # matched with payouts, and one without the other is none.
            if rule.key_column == "pool_key" and not all(sides(group)):
                continue
            if len(group) > 1 and is_one_currency(group) and clearing_minor(group) == 0:
                self._decide(group, Outcome("matched", None, rule.rule_id, keys_of(group)))

    def _by_key(self, rule: Rule, items: Sequence[Item]) -> list[list[Item]]:
        groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
        for item in items:
            keys = {"strong_key": item.strong_key, "weak_key": item.weak_key, "pool_key": item.pool_key}
            key = keys[rule.key_column]
            if rule.key_column == "strong_key" and key is not None:
                key = self.paid_together.get((item.clearing_account, key), key)
            if key is not None:
                groups[item.clearing_account, key].append(item)
        return list(groups.values())

    # -- what a pair is called

    def _name(self, rule: Rule, group: Sequence[Item]) -> None:
        left, right = sides(group)
        charged = [line for line in right if line.fee_currency == line.currency]
        contracted = {line: fee for line in charged if (fee := self._contracted_fee(left, charged, line)) is not None}
        variance = sum((line.fee_minor or 0) - fee for line, fee in contracted.items()) if contracted else None
        converted = sum(line.fx_variance_minor or 0 for line in right)
        tolerance = self._tolerance(rule, group)
        code = self._difference(rule, group)
        if code is None and self.terms.checks_dates and self._is_out_of_window(rule, left, right):
            code = "DATE_OUT_OF_WINDOW"
        if code is None and self.terms.compares_fees:
            is_beyond = variance is not None and abs(variance) > tolerance.fee(sum(contracted.values()))
            if is_beyond or any(self._is_contradicted(left, charged, line) for line in contracted):
                code = "FEE_VARIANCE"
            elif any(line.fee_minor for line in charged if line.item_type == "capture" and line not in contracted):
                code = "FEE_DATA_MISSING"
        if code is None and any(line.is_rate_missing for line in right):
            code = "FX_RATE_UNAVAILABLE"
        if code is None and abs(converted) > tolerance.fx_tolerance_minor:
            code = "FX_DIFFERENCE"
        status = "matched" if code is None else "open"
        outcome = Outcome(status, code, rule.rule_id, keys_of(group), fee_variance_minor=variance)
        for item in group:
            self.outcomes[item.item_key] = replace(outcome, expected_fee_minor=contracted.get(item))

    def _difference(self, rule: Rule, group: Sequence[Item]) -> str | None:
        """What the amounts are called; nothing where both sides come to the same."""
        left, right = sides(group)
        ours, theirs = (sum(item.amount_minor for item in side) for side in (left, right))
        if not is_one_currency(group):
            return "CURRENCY_MISMATCH"
        if ours == theirs:
            return None
        if rule.pairing == "total" and max(item.due_date or date.min for item in left) >= self.world.business_date:
            return "EXPECTED_NOT_DUE"
        if any(item.item_type == "returned_payout" for item in group):
            return self.terms.taken_back_code
        if ours == -theirs and self.terms.right_sign != 0:
            return "DIRECTION"
        # What a processor still holds back is held, and no rounding, however little it is.
        if any(item.item_type == "reserve_hold" for item in left) and 0 <= theirs < ours:
            return "RESERVE_HELD"
        if abs(ours - theirs) <= self._tolerance(rule, group).rounding(ours):
            return "ROUNDING"
        if self.terms.mismatch_code is not None:
            return self.terms.mismatch_code
        if abs(theirs) >= abs(ours):
            return "OVER"
        if rule.split_share is not None and abs(ours - theirs) > rule.split_share * abs(ours):
            return "SPLIT_INCOMPLETE"
        return "UNDER"

    def _tolerance(self, rule: Rule, group: Sequence[Item]) -> Tolerance:
        return self.rules.tolerance(rule, group[0].currency, self.world.business_date)

    def _is_out_of_window(self, rule: Rule, left: Sequence[Item], right: Sequence[Item]) -> bool:
        """Whether the report is older than what it reports, or more business days late than the rule allows."""
        reported, happened = (min(item.value_date for item in side) for side in (right, left))
        calendar = min(_calendar(item) for item in left)
        early = self.rules.days_between(calendar, reported, happened) if reported < happened else 0
        if rule.early_business_days is not None and early > rule.early_business_days:
            return True
        awaited = [item.expected_date for item in left if item.expected_date is not None]
        if not awaited or reported <= max(awaited):
            return False
        return self.rules.days_between(calendar, max(awaited), reported) > rule.window_business_days

    def _contracts_of(self, left: Sequence[Item], charged: Sequence[Item], line: Item) -> list[Contract]:
        """Of each fee type the most specific contract of the day of the movement, in the highest tier reached."""
        fitting: dict[str, list[Contract]] = defaultdict(list)
        for contract, ours in product(self.world.contracts, left):
            if (
                self.terms.compares_fees
                and contract.item_type == ours.item_type == line.item_type
                and contract.processor == ours.processor
                and contract.currency == line.currency
                and contract.method_type == ours.method_type
                and contract.network in (ANY, ours.network)
                and contract.market in (ANY, ours.market)
                and contract.valid_from <= ours.value_date
                and (contract.valid_to is None or ours.value_date < contract.valid_to)
                and (contract.billing == "settlement" or contract.fee_type == "processing")
                and contract.tier_from_minor <= self._reached(contract, ours, left, charged, line)
            ):
                fitting[contract.fee_type].append(contract)
        return [
            min(found, key=lambda one: (-_specificity(one), -one.tier_from_minor, one.fee_schedule_id))
            for found in fitting.values()
        ]  # fmt: skip

    def _reached(
        self, contract: Contract, ours: Item, left: Sequence[Item], charged: Sequence[Item], line: Item
    ) -> int:
        """What the tier is chosen by: the amount charged on, or what was captured in the month before."""
        if contract.tier_basis == "month_volume":
            month = (ours.value_date.replace(day=1) - ONE_DAY).replace(day=1)
            return sum(
                volume.captured_minor for volume in self.world.volumes
                if not volume.is_abandoned
                and volume.capture_month == month
                and (volume.processor, volume.method_type) == (contract.processor, contract.method_type)
                and volume.currency == contract.currency
                and contract.network in (ANY, volume.network)
                and contract.market in (ANY, volume.market)
            )  # fmt: skip
        return sum(abs(other.amount_minor) for other in _priced_as_one(contract, left, charged, line))

    def _contracted_fee(self, left: Sequence[Item], charged: Sequence[Item], line: Item) -> int | None:
        """What the contracts say a line should have cost; nothing where that cannot be known."""
        contracts = self._contracts_of(left, charged, line)
        passes_through = any(_passes_through(contract) for contract in contracts)
        if not contracts or (passes_through and _passed_through(line) is None):
            return None
        fee = (_passed_through(line) or 0) if passes_through else 0
        for contract in contracts:
            if contract.billing == "invoice":
                continue
            together = _priced_as_one(contract, left, charged, line)
            before = together[: together.index(line)]
            fee += _part(contract, [*before, line]) - (_part(contract, before) if before else 0)
        return fee

    def _is_contradicted(self, left: Sequence[Item], charged: Sequence[Item], line: Item) -> bool:
        """Whether more was passed through than the whole fee."""
        contracts = self._contracts_of(left, charged, line)
        return any(map(_passes_through, contracts)) and (_passed_through(line) or 0) > (line.fee_minor or 0)

    # -- what is alone

    def _left_alone(self, item: Item) -> str:
        if item.item_type == "reserve_hold":
            return "RESERVE_HELD"
        if item.due_date is None or item.due_date >= self.world.business_date:
            return "EXPECTED_NOT_DUE"
        if self.terms.coverage == "always":
            return self.terms.left_alone_code
        by_bank = self.terms.coverage == "bank_account"
        sender = ("bank", item.bank_account) if by_bank else (item.processor, item.processor_account)
        covered_until = self.world.covered_until.get((sender[0] or "", sender[1] or ""))
        is_covered = covered_until is not None and covered_until >= (item.expected_date or item.value_date)
        return self.terms.left_alone_code if is_covered else "MISSING_OVERDUE"

    def _right_alone(self, item: Item) -> str:
        if self._is_replacement(item):
            return "RETRO_CORRECTION"
        seen = [
            earlier for earlier in self.world.earlier
            if earlier.reconciliation == item.reconciliation
            and item.strong_key is not None and earlier.strong_key == item.strong_key
            and earlier.item_key != item.item_key
        ]  # fmt: skip
        # Many lines share the key of a total: one repeats another that says the same.
        is_of_total = any(rule.pairing == "total" for rule in self.passes)
        if any(
            earlier.was_paired and (not is_of_total or earlier.amount_minor == item.amount_minor) for earlier in seen
        ) or self._is_told_again(item):
            return self._repeated(item)
        reasons = [row.exclusion_reason for row in seen] + [other.exclusion_reason for other in self._namesakes(item)]
        if "FAILED" in reasons:
            return "STATUS"
        return self._unheard_of(item)

    def _is_told_again(self, item: Item) -> bool:
        """Whether a line without a reference says what another such line was matched by, inside the rule's window."""
        rules = [rule for rule in self.passes if rule.key_column == "weak_key" and rule.names_event]
        if item.strong_key is not None or item.weak_key is None or not rules:
            return False
        return any(
            earlier.strong_key is None and earlier.was_paired and earlier.value_date is not None
            and (earlier.reconciliation, earlier.weak_key) == (item.reconciliation, item.weak_key)
            and earlier.item_key != item.item_key
            and self.rules.days_between(_calendar(item), item.value_date, earlier.value_date)
            <= rules[0].window_business_days
            for earlier in self.world.earlier
        )  # fmt: skip

    def _unheard_of(self, item: Item) -> str:
        """The code of a right item whose reference says nothing; what time alone may clear comes first."""
        if self._is_before_cutoff(item):
            return "CUTOFF_TEMPORARY"
        return REVERSALS.get(item.item_type, self.terms.right_alone_code)

    def _left_over(self, item: Item) -> str:
        return "RETRO_CORRECTION" if self._is_replacement(item) else self._repeated(item)

    def _repeated(self, item: Item) -> str:
        """The code of a right item whose partner another one took."""
        is_against = item.amount_minor * self.terms.right_sign < 0
        code = self.terms.taken_back_code if item.is_reversal or is_against else self.terms.repeat_code
        return code or self.terms.right_alone_code

    def _is_replacement(self, item: Item) -> bool:
        """Whether the delivery that brings the item takes back what stood under its reference."""
        return any(
            other.side == RIGHT and other.intrinsic_code == "RETRO_CORRECTION" and other.batch_id == item.batch_id
            for other in self._namesakes(item)
        )

    def _namesakes(self, item: Item) -> list[Item]:
        """The other items of this close under the same reference."""
        return [
            other for other in self.world.items
            if item.strong_key is not None
            and (other.reconciliation, other.strong_key) == (item.reconciliation, item.strong_key)
            and other.item_key != item.item_key
        ]  # fmt: skip

    def _is_before_cutoff(self, item: Item) -> bool:
        if item.reconciliation != "payment_processor" or item.occurred_at is None:
            return False
        grace = self.rules.cutoff_grace_seconds(item.processor, item.value_date)
        cutoff = datetime.combine(self.world.business_date + ONE_DAY, time(), self.rules.zone)
        return cutoff - item.occurred_at <= timedelta(seconds=grace)


def _calendar(item: Item) -> str:
    """The calendar an item's days count in: that of its account, else the one called like its currency."""
    return item.calendar or item.currency


def clearing_minor(items: Iterable[Item]) -> int:
    """What items of one currency add to their clearing account: left adds, right takes away."""
    return sum(item.amount_minor if item.side == LEFT else -item.amount_minor for item in items)


def _priced_as_one(contract: Contract, left: Sequence[Item], charged: Sequence[Item], line: Item) -> list[Item]:
    """The lines that settle the one movement this line settles, in their order, where the contract goes by it."""
    is_one = sum(ours.item_type == line.item_type for ours in left) == 1
    if contract.charged_per == "line" or not is_one:
        return [line]
    alike = [other for other in charged if (other.item_type, other.currency) == (line.item_type, line.currency)]
    return sorted(alike, key=_order)


def _part(contract: Contract, lines: Sequence[Item]) -> int:
    """What the contract itself charges on lines together, within its bounds."""
    share = sum(abs(line.amount_minor) for line in lines) * contract.pct_bps / 10_000
    fee = int(share.quantize(Decimal(1), ROUND_HALF_EVEN)) + contract.fixed_minor
    fee = fee if contract.maximum_minor is None else min(fee, contract.maximum_minor)
    return fee if contract.minimum_minor is None else max(fee, contract.minimum_minor)


def _passes_through(contract: Contract) -> bool:
    return contract.billing == "settlement" and contract.pricing == "interchange_plus_plus"


def _passed_through(line: Item) -> int | None:
    if line.interchange_minor is None or line.scheme_fee_minor is None:
        return None
    return line.interchange_minor + line.scheme_fee_minor


def sides(group: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    return [item for item in group if item.side == LEFT], [item for item in group if item.side == RIGHT]


def is_one_currency(group: Iterable[Item]) -> bool:
    return len({item.currency for item in group}) == 1


def _order(item: Item) -> tuple[date, str]:
    return item.value_date, item.item_key


def keys_of(items: Iterable[Item]) -> frozenset[str]:
    return frozenset(item.item_key for item in items)


def _paid_together(items: Iterable[Item]) -> dict[tuple[str, str], str]:
    """(clearing account, reference) -> the key of the entry that names it among others: it pays them all."""
    found = {}
    for item in items:
        if item.side == RIGHT and item.strong_key is not None and "+" in item.strong_key:
            before, _, named = item.strong_key.rpartition("|")
            for reference in named.split("+"):
                found[item.clearing_account, f"{before}|{reference}"] = item.strong_key
    return found


def _specificity(contract: Contract) -> int:
    return (contract.network != ANY) + (contract.market != ANY)

"""The faults: each a piece of the money path as it stands, and what somebody might have written instead.

A piece stands exactly once in its file; ``test_mutants.py`` says when one has moved on.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MATCHES = "models/intermediate/matching/int_matches.sql"
FEES = "models/intermediate/matching/int_expected_fees.sql"
ITEMS = "models/marts/reconciliation/reconciliation_items.sql"
REGISTER = "models/marts/breaks/break_register.sql"
LEDGER = "models/intermediate/matching/int_ledger_items.sql"
LINES = "models/intermediate/matching/int_settlement_items.sql"
BANK = "models/intermediate/matching/int_bank_items.sql"
INSTRUCTIONS = "models/intermediate/matching/int_instruction_items.sql"
BALANCES = "models/intermediate/matching/int_balance_items.sql"
INVOICED = "models/intermediate/matching/int_invoiced_fees.sql"
INVOICES = "models/intermediate/matching/int_invoice_items.sql"
CARRIED = "models/intermediate/matching/int_items.sql"
COVERAGE = "models/intermediate/matching/int_coverage.sql"
EVENTS = "models/intermediate/posting/int_events.sql"
TERMS = "models/intermediate/posting/int_booked_terms.sql"
STATED = "models/intermediate/posting/int_stated_balances.sql"
JOURNAL = "models/marts/accounting/journal_proposed.sql"
CLOSE = "macros/close.sql"
CONTRACTS = "macros/fees.sql"
MONEY = "macros/money.sql"
CALENDAR = "macros/calendar.sql"
REFERENCES = "macros/references.sql"
VALIDITY = "macros/validity.sql"
# What the oracle's worlds run through; faults elsewhere are for unit tests and scenarios to find.
ORACLE_SEES = (MATCHES, FEES, CONTRACTS, ITEMS, MONEY, VALIDITY)


class Mutant(NamedTuple):
    """One fault: in ``file`` of the dbt project, ``new`` instead of ``old``."""

    name: str
    file: str
    old: str
    new: str

    def text(self, project: Path) -> str:
        """The file with the fault in it.

        :raises ValueError: the piece does not stand in the file exactly once.
        """
        text = (project / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has {text.count(self.old)} times {self.old!r}")
        return text.replace(self.old, self.new)


MUTANTS = (
    Mutant(
        "a total: one that equals it is enough", MATCHES,
        "'total' then bool_and(keyed_{{ pass }}.side = 'left' or keyed",
        "'total' then bool_or(keyed_{{ pass }}.side = 'right' and keyed",
    ),
    Mutant("a total: due today is late", ITEMS, "'total' and paired.due_date >=", "'total' and paired.due_date >"),
    Mutant("a total: what shares its key is a repetition", ITEMS, "and (not one_sided.is_of_total or", "and (true or"),
    Mutant("a month's fees: what stood before is not taken off", INVOICED, "select lines.*, -1,", "select lines.*, 0,"),
    Mutant(
        "a month's fees: priced again with each capture", INVOICED,
        "bool_and(is_consumed_now) over", "bool_or(is_consumed_now) over",
    ),
    Mutant(
        "an invoice: its change has the other sign", INVOICES,
        "then prior_amount_minor - amount_minor else", "then amount_minor - prior_amount_minor else",
    ),
    Mutant(
        "an invoice: what is deducted for it is an expense again", EVENTS,
        "family = 'invoice_deduction' and booked_date >= invoiced_since", "false",
    ),
    Mutant(
        "corrections: right side not subtracted", MATCHES,
        "then items.amount_minor else -items.amount_minor end",
        "then items.amount_minor else items.amount_minor end",
    ),
    Mutant("corrections: currency dropped", MATCHES, "        and items.currency = corrected.currency\n", ""),
    Mutant("corrections: one alone settles itself", MATCHES, "= 0 and count(*) > 1 and", "= 0 and"),
    Mutant("corrections: need not come to zero", MATCHES, "sum({{ signed }}) = 0", "sum({{ signed }}) >= 0"),
    Mutant(
        "corrections: one by itself settles itself", MATCHES,
        "= 0 and count(*) filter (where {{ is_correction }}) > 1", "= 0",
    ),
    Mutant(
        "corrections: need not come to zero by themselves", MATCHES,
        "filter (where {{ is_correction }}) = 0", "filter (where {{ is_correction }}) >= 0",
    ),
    Mutant(
        "corrections: take along what they do not settle", MATCHES,
        "corrected.takes_corrections and {{ is_correction }}", "corrected.takes_corrections",
    ),
    Mutant(
        "future-dated items are matched", MATCHES,
        "where exclusion_reason is null and not is_future_dated",
        "where exclusion_reason is null",
    ),
    Mutant(
        "excluded items are matched", MATCHES,
        "where exclusion_reason is null and not is_future_dated",
        "where not is_future_dated",
    ),
    Mutant(
        "a rule holds on the day it ends", VALIDITY,
        "'infinity'::date) > {{ day }}",
        "'infinity'::date) >= {{ day }}",
    ),
    Mutant(
        "key without clearing account", MATCHES,
        "rules.rule_id || '|' || clearing_account || '|'\n",
        "rules.rule_id || '|'\n",
    ),
    Mutant(
        "candidates in another currency", MATCHES,
        "        and ours.currency = theirs.currency\n",
        "",
    ),
    Mutant(
        "a pool needs no second side", MATCHES,
        "key_column <> 'pool_key' and has_others",
        "has_others",
    ),
    Mutant(
        "the days of an account may be repeats", MATCHES,
        "keyed_{{ pass }}.names_event and totals.left_count = 1",
        "totals.left_count = 1",
    ),
    Mutant(
        "window short by a day", MATCHES,
        "<= ours.window_business_days",
        "< ours.window_business_days",
    ),
    Mutant(
        "window in calendar days", MATCHES,
        "coalesce(our_day.business_day_no - their_day.business_day_no, ours.value_date - theirs.value_date)",
        "ours.value_date - theirs.value_date",
    ),
    Mutant(
        "no window without a calendar", MATCHES,
        "coalesce(our_day.business_day_no - their_day.business_day_no, ours.value_date - theirs.value_date)",
        "our_day.business_day_no - their_day.business_day_no",
    ),
    Mutant(
        "window in the calendar of the currency", MATCHES,
        "on ours.calendar = our_day.calendar and",
        "on ours.currency = our_day.calendar and",
    ),
    Mutant(
        "currencies of a pair not looked at", MATCHES,
        "min(currency) = max(currency) as is_one_currency",
        "true as is_one_currency",
    ),
    Mutant(
        "the last equal line is the partner", MATCHES,
        "order by value_date, item_key) as twin_rank",
        "order by value_date desc, item_key) as twin_rank",
    ),
    Mutant(
        "several of ours may leave lines over", MATCHES,
        "names_event and totals.left_count = 1 and totals.right_count > 1",
        "names_event and totals.right_count > 1",
    ),
    Mutant("lines that add up are left over", MATCHES, "        and totals.left_minor <> totals.right_minor\n", ""),
    Mutant(
        "one side is enough", MATCHES,
        "when left_count = 0 or right_count = 0 then null",
        "when left_count = 0 and right_count = 0 then null",
    ),
    Mutant(
        "a total may be smaller", MATCHES,
        "and coalesce(left_minor, 0) = coalesce(right_minor, 0)\n",
        "and coalesce(left_minor, 0) <= coalesce(right_minor, 0)\n",
    ),
    Mutant("a zero agrees with nothing", MATCHES, "left_count + right_count > 1 and", "true and"),
    Mutant(
        "one of ours with two candidates is paired", MATCHES,
        "count(*) over (partition by ours.item_key) = 1 and ",
        "",
    ),
    Mutant(
        "every equal line is the partner", MATCHES,
        "amount_minor = left_minor and twin_rank = 1 then",
        "amount_minor = left_minor then",
    ),
    Mutant(
        "any first line is the partner", MATCHES,
        "amount_minor = left_minor and twin_rank = 1 then",
        "twin_rank = 1 then",
    ),
    Mutant(
        "items with a code of their own are matched", MATCHES,
        "where items.intrinsic_code is null or",
        "where true or",
    ),
    Mutant(
        "a credit that names several payouts meets none", MATCHES,
        "coalesce(merged.merged_key, items.strong_key) as strong_key",
        "items.strong_key",
    ),
    Mutant("payouts of a day are not pooled", MATCHES, "when 'pool_key' then pool_key end", "end"),
    Mutant("the third pass is left out", MATCHES, "passes = [1, 2, 3]", "passes = [1, 2]"),
    Mutant(
        "fees: half rounds away from zero", MONEY,
        "- trunc({{ amount }})) = 0.5 then",
        "- trunc({{ amount }})) = 0.25 then",
    ),
    Mutant("fees: basis points of a thousand", CONTRACTS, ".pct_bps / 10000", ".pct_bps / 1000"),
    Mutant("fees: fixed part forgotten", CONTRACTS, " + {{ contract }}.fixed_minor", ""),
    Mutant("fees: no maximum", CONTRACTS, "        {{ contract }}.maximum_minor,\n", ""),
    Mutant("fees: no minimum", CONTRACTS, "{{ contract }}.minimum_minor, least(", "least("),
    Mutant("fees: sign of the amount counts", FEES, "abs(theirs.amount_minor) as amount_minor", "theirs.amount_minor"),
    Mutant(
        "fees: a contract holds on the day it ends", FEES,
        "shares.value_date < coalesce(",
        "shares.value_date <= coalesce(",
    ),
    Mutant(
        "fees: a contract starts a day late", FEES,
        "shares.value_date >= fee_schedules.valid_from",
        "shares.value_date > fee_schedules.valid_from",
    ),
    Mutant(
        "fees: the least specific contract", FEES,
        "(fee_schedules.market <> '*')::integer desc",
        "(fee_schedules.market <> '*')::integer",
    ),
    Mutant("fees: the lowest tier", FEES, "fee_schedules.tier_from_minor desc", "fee_schedules.tier_from_minor"),
    Mutant("fees: a tier begins after its amount", FEES, "tier_from_minor <= case", "tier_from_minor < case"),
    Mutant("fees: in any currency", FEES, "        and theirs.currency = theirs.fee_currency\n", ""),
    Mutant("fees: contract of another currency", FEES, "        and fee_schedules.currency = shares.currency\n", ""),
    Mutant("fees: contract of another processor", FEES, "shares.processor = fee_schedules.processor\n        and ", ""),
    Mutant("fees: contract of another item type", FEES, "        and fee_schedules.item_type = shares.item_type\n", ""),
    Mutant(
        "fees: lines of one capture priced one by one", FEES,
        "fee_schedules.charged_per = 'item' and shares.settles_one_item as",
        "false as",
    ),
    Mutant(
        "fees: per line, priced as one", FEES,
        "fee_schedules.charged_per = 'item' and shares.settles_one_item as",
        "shares.settles_one_item as",
    ),
    Mutant(
        "fees: first line pays for all", FEES,
        "rows unbounded preceding",
        "rows between unbounded preceding and unbounded following",
    ),
    Mutant("fees: what is invoiced is kept back, too", FEES, "            when not is_kept_back then 0\n", ""),
    Mutant("fees: any invoiced fee prices the line", FEES, " and fee_schedules.fee_type = 'processing'", ""),
    Mutant(
        "fees: of several fee types one", FEES,
        "partition by shares.item_key, fee_schedules.fee_type",
        "partition by shares.item_key",
    ),
    Mutant("fees: nothing is passed through", FEES, "then passed_through_minor else 0 end", "then 0 else 0 end"),
    Mutant("fees: what is not stated is nothing", FEES, " or passed_through_minor is not null", " or true"),
    Mutant("fees: parts beyond the whole", FEES, "passed_through_minor > fee_minor", "false"),
    Mutant("fees: volume of the month itself", FEES, " - interval '1 month'", ""),
    Mutant(
        "fees: volume of closes that were given up", FEES,
        "    inner join close_chain on fee_volumes.close_id = close_chain.close_id\n",
        "",
    ),
    Mutant(
        "fees: volume of every network", FEES,
        "        and fee_schedules.network in (fee_volumes.network, '*')\n",
        "",
    ),
    Mutant(
        "fees: corrections are compared", FEES,
        "        and theirs_match.rule_id is distinct from 'corrected'\n",
        "",
    ),
    Mutant("fees: lines left over are compared", FEES, " and theirs_match.decision = 'paired'\n", "\n"),
    Mutant("fees: contradiction is let pass", ITEMS, " or paired.is_fee_contradicted", ""),
    Mutant(
        "rounding excludes its limit", ITEMS,
        "<= paired.rounding_minor then 'ROUNDING'",
        "< paired.rounding_minor then 'ROUNDING'",
    ),
    Mutant(
        "opposite signs everywhere", ITEMS,
        "= -paired.right_minor and kinds.right_sign <> 0 then",
        "= -paired.right_minor then",
    ),
    Mutant(
        "a shortfall of just the share is a missing part", ITEMS,
        "> abs(paired.left_minor) * rules.split_share",
        ">= abs(paired.left_minor) * rules.split_share",
    ),
    Mutant(
        "over for under", ITEMS,
        "when abs(paired.right_minor) < abs(paired.left_minor) then 'UNDER'",
        "when abs(paired.right_minor) > abs(paired.left_minor) then 'UNDER'",
    ),
    Mutant(
        "currencies of a pair are not named", ITEMS,
        "when not paired.is_one_currency then 'CURRENCY_MISMATCH'\n",
        "",
    ),
    Mutant(
        "a report a day early is out of the window", ITEMS,
        "paired.days_early > rules",
        "paired.days_early >= rules",
    ),
    Mutant(
        "a report on the last day is late", ITEMS,
        "paired.days_late > rules",
        "paired.days_late >= rules",
    ),
    Mutant("dates of every reconciliation", ITEMS, "when kinds.checks_dates and items", "when items"),
    Mutant(
        "fee tolerance excludes its limit", ITEMS,
        "abs(paired.fee_variance_minor) > paired",
        "abs(paired.fee_variance_minor) >= paired",
    ),
    Mutant(
        "fees too low are accepted", ITEMS,
        "abs(paired.fee_variance_minor) > paired",
        "paired.fee_variance_minor > paired",
    ),
    Mutant("no fee needs a contract", ITEMS, "            and items.fee_minor <> 0\n", ""),
    Mutant(
        "rate tolerance excludes its limit", ITEMS,
        "abs(paired.fx_variance_minor) > paired",
        "abs(paired.fx_variance_minor) >= paired",
    ),
    Mutant(
        "the general tolerance of a rule that has another", ITEMS,
        "coalesce(own.rounding_minor, every.rounding_minor, 0)",
        "coalesce(own.rounding_minor, 0)",
    ),
    Mutant(
        "due today is late", ITEMS,
        "items.due_date >= {{ business_date() }}",
        "items.due_date > {{ business_date() }}",
    ),
    Mutant(
        "reported until the expected day is not reported", ITEMS,
        "coverage.covered_until >= items.expected_date",
        "coverage.covered_until > items.expected_date",
    ),
    Mutant(
        "every account is covered by any report of its sender", ITEMS,
        "when 'bank_account' then items.bank_account else items.processor_account end",
        "when 'bank_account' then items.bank_account else coverage.origin_account end",
    ),
    Mutant(
        "closes that were redone are remembered", ITEMS,
        "    inner join close_chain on earlier_items.close_id = close_chain.close_id\n",
        "",
    ),
    Mutant("an item is its own predecessor", ITEMS, "        and one_sided.item_key <> earlier_items.item_key\n", ""),
    Mutant(
        "half a match makes a duplicate", ITEMS,
        "earlier_items.ledger_date is not null and earlier_items.reported_date is not null",
        "earlier_items.reported_date is not null",
    ),
    Mutant(
        "another reconciliation makes a duplicate", ITEMS,
        "where one_sided.reconciliation = earlier_items.reconciliation\n",
        "where true\n",
    ),
    Mutant(
        "a duplicate for what was taken back", ITEMS,
        "sign(items.amount_minor) = -kinds.right_sign",
        "sign(items.amount_minor) = kinds.right_sign",
    ),
    Mutant(
        "half a release is rounding", ITEMS,
        "paired.right_minor between 0 and paired.left_minor then 'RES",
        "paired.right_minor between 0 and paired.left_minor - 2 then 'RES",
    ),
    Mutant("an order is repeated for ever", ITEMS, "<= unreferenced.window_business_days", "<= 1000"),
    Mutant("a line with a reference is known by its order", ITEMS, "    where one_sided.strong_key is null\n", ""),
    Mutant("reversals are not looked at", ITEMS, "when items.is_reversal or sign", "when sign"),
    Mutant("replaced by any delivery", ITEMS, " and items.batch_id = one_sided.batch_id)", ")"),
    Mutant("which of its key's lines a line is", CLOSE, "    repeated_rows.occurrence_no,\n", "    null,\n"),
    Mutant("seconds after the cut-off", ITEMS, "items.occurred_at + \" ~", "items.occurred_at - \" ~"),
    Mutant(
        "a temporary break for good", ITEMS,
        "second'\") }} > {{ business_date() }}",
        "second'\") }} > items.value_date",
    ),
    Mutant(
        "a break changes every day", ITEMS,
        "when carried_break_code = break_code then last_changed_business_date\n",
        "",
    ),
    Mutant(
        "a break is seen first every day", ITEMS,
        "coalesce(first_seen_business_date, {{ business_date() }})",
        "{{ business_date() }}",
    ),
    Mutant(
        "clearing: right side not subtracted", ITEMS,
        "then amount_minor else -amount_minor end as clearing_minor",
        "then amount_minor else amount_minor end as clearing_minor",
    ),
    Mutant(
        "clearing: excluded items count", ITEMS,
        "case when status = 'excluded' then 0 when side",
        "case when side",
    ),
    Mutant("register: exposure signed", REGISTER, "then abs(all_breaks.clearing_minor)",
        "then all_breaks.clearing_minor"),
    Mutant(
        "register: left total of the right side", REGISTER,
        "filter (where side = 'left'), 0)::bigint as left_minor",
        "filter (where side = 'right'), 0)::bigint as left_minor",
    ),
    Mutant(
        "register: an age of just the limit is young", REGISTER,
        "valued.age_business_days >= thresholds",
        "valued.age_business_days > thresholds",
    ),
    Mutant(
        "register: what nobody can value is small", REGISTER,
        "coalesce(valued.reporting_exposure_minor, 9223372036854775807)",
        "coalesce(valued.reporting_exposure_minor, 0)",
    ),
    Mutant(
        "ledger: a refund is owed to us", LEDGER,
        "case when status = 'succeeded' then -amount_minor else 0 end",
        "case when status = 'succeeded' then amount_minor else 0 end",
    ),
    Mutant(
        "ledger: a correction is the whole amount", LEDGER,
        "else standing_minor - prior_standing_minor",
        "else standing_minor",
    ),
    Mutant(
        "lines: a payout is money towards the processor", LINES,
        "-net_change_minor as payout_minor",
        "net_change_minor as payout_minor",
    ),
    Mutant(
        "bank: a restated entry is the whole amount", BANK,
        "then amount_minor - prior_amount_minor else",
        "then amount_minor else",
    ),
    Mutant(
        "payouts: money in", INSTRUCTIONS,
        "case when status = 'returned' then 0 else -amount_minor end as standing_minor",
        "case when status = 'returned' then 0 else amount_minor end as standing_minor",
    ),
    Mutant(
        "balances: a tombstone takes nothing back", BALANCES,
        "then amount_minor - coalesce(prior_amount_minor, 0) else 0",
        "then amount_minor else 0",
    ),
    Mutant(
        "future-dated items are forgotten", CARRIED,
        "(status = 'open' or exclusion_reason = 'FUTURE_DATED')",
        "status = 'open'",
    ),
    Mutant("coverage: the first file says how far", COVERAGE, "max(files.content_date)", "min(files.content_date)"),
    Mutant("calendar: a rest day is a business day", CALENDAR, "1 - {{ start_day }}.is_business_day::integer", "0"),
    Mutant(
        "references: as they are spelled", REFERENCES,
        "upper(regexp_replace({{ reference }}, '[^A-Za-z0-9]', '', 'g'))",
        "{{ reference }}",
    ),
    Mutant(
        "versions: a document has no earlier deliveries", CLOSE,
        "on documents.kind = deliveries.kind and documents.identity = deliveries.identity",
        "on documents.file_id = deliveries.file_id",
    ),
    Mutant(
        "versions: a line with an id of its own is one of its document", CLOSE,
        "{%- if ids %} or processor in",
        "{%- if false %} or processor in",
    ),
    Mutant(
        "versions: one equal amount is no change", CLOSE,
        "{%- set is_same %}{% for amount in amounts %}{{ amount }} = prior_{{ amount }}{{ ' and '",
        "{%- set is_same %}{% for amount in amounts %}{{ amount }} = prior_{{ amount }}{{ ' or '",
    ),
    Mutant(
        "versions: what arrived last stands, whatever it is part of", CLOSE,
        "{{ 'is_part desc, ' if part_of }}",
        "",
    ),
    Mutant(
        "versions: a payout that leaves a line out takes it out of every other", CLOSE,
        "window same_part as (partition by {{ thing }}, {{ part_of }})",
        "window same_part as (partition by {{ thing }})",
    ),
    Mutant(
        "lines: a line never leaves a payout for another", LINES,
        "and (prior_batch_reference is null or prior_net_minor <> 0) as is_moved",
        "and prior_batch_reference is null as is_moved",
    ),
    Mutant(
        "events: what stood is booked again", EVENTS,
        "prior_currency, -prior_gross_minor, -prior_fee_minor",
        "prior_currency, prior_gross_minor, -prior_fee_minor",
    ),
    Mutant(
        "events: corrections at the terms of today", EVENTS,
        "left join booked_terms on standings.movement = booked_terms.movement",
        "left join booked_terms on false",
    ),
    Mutant(
        "terms: of the last time it was booked", TERMS,
        "visible.consumed_date, versions.batch_id desc", "versions.batch_id desc",
    ),
    Mutant(
        "terms: what the payment says today", TERMS,
        "on payments.batch_id = visible.batch_id and visible.consumed_date <= first_booked.booked_date",
        "on payments.batch_id = visible.batch_id",
    ),
    Mutant(
        "terms: what the merchant pays today", TERMS,
        "on merchants.batch_id = visible.batch_id and visible.consumed_date <= paid_to.booked_date",
        "on merchants.batch_id = visible.batch_id",
    ),
    Mutant("banks: a statement under way is not looked at", STATED, " or (opening_minor is not null", " or (false"),
    Mutant(
        "banks: all that a statement under way will book", STATED,
        "            and found.booking_date <= {{ business_date() }}\n", "",
    ),
    Mutant("journal: converted in the gross currency", JOURNAL, "in ('net', 'fee', 'converted')", "in ('net', 'fee')"),
    Mutant("journal: debits are credits", JOURNAL, "when 'debit' then 1 else -1", "when 'debit' then -1 else 1"),
)  # fmt: skip

{{ config(
    indexes=[
        {'columns': ['close_id', 'status']},
        {'columns': ['strong_key']},
        {'columns': ['batch_key']},
    ],
    post_hook="create index if not exists reconciliation_items_unreferenced on {{ this }} (weak_key) where strong_key is null and side = 'right'",
) }}
{%- set carried_columns = carried_item_columns() %}
{%- set earlier_columns = dict(carried_columns, close_id='bigint', group_id='text', ledger_date='date', reported_date='date') %}

with

items as (
    select * from {{ ref('int_items') }}
),

matches as (
    select * from {{ ref('int_matches') }}
),

kinds as (
    select * from {{ ref('reconciliations') }}
),

days as (
    select * from {{ ref('business_calendar') }}
),

rules as (
    select *
    from {{ ref('match_rules') }} as rules
    where {{ holds_on('rules', business_date()) }}
),

tolerances as (
    select *
    from {{ ref('match_tolerances') }} as tolerances
    where {{ holds_on('tolerances', business_date()) }}
),

batches as (
    select * from {{ source('ops', 'batches') }}
),

expected_fees as (
    select * from {{ ref('int_expected_fees') }}
),

coverage as (
    select * from {{ ref('int_coverage') }}
),

close_chain as (
    select close_id from ops.close_chain({{ parent_close_id() }})
),

earlier_items as not materialized (
    select * from {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
),

-- Each item with its match, if it has one, and what it should have cost.
items_with_matches as (
    select
        items.*,
        matches.decision,
        matches.rule_id,
        case when matches.decision = 'paired' then matches.group_id end as group_id,
        expected_fees.expected_fee_minor,
        expected_fees.fee_schedule_id,
        expected_fees.is_contradicted
    from items
    left join matches on items.item_key = matches.item_key
    left join expected_fees on items.item_key = expected_fees.item_key
),

-- Both sides of a pair see the same dates and the same fee difference, so both end with the same code.
paired as (
    select
        items.group_id,
        coalesce(sum(items.amount_minor) filter (where items.side = 'left'), 0) as left_minor,
        coalesce(sum(items.amount_minor) filter (where items.side = 'right'), 0) as right_minor,
        min(items.currency) = max(items.currency) as is_one_currency,
        min(items.rule_id) as rule_id,
        min(items.currency) as currency,
        min(items.calendar) filter (where items.side = 'left') as left_calendar,
        min(items.value_date) filter (where items.side = 'left') as left_date,
        max(items.expected_date) filter (where items.side = 'left') as expected_date,
        max(items.due_date) filter (where items.side = 'left') as due_date,
        min(items.value_date) filter (where items.side = 'right') as right_date,
        bool_or(items.item_type = 'returned_payout') as has_returned_payout,
        bool_or(items.item_type = 'reserve_hold') as has_reserve_hold,
        max(batches.as_of) filter (where items.side = 'left') as left_as_of,
        max(batches.as_of) filter (where items.side = 'right') as right_as_of,
        sum(items.fx_variance_minor) as fx_variance_minor,
        bool_or(items.is_rate_missing) as is_rate_missing,
        sum(items.expected_fee_minor) as expected_fee_minor,
        sum(items.fee_minor - items.expected_fee_minor) as fee_variance_minor,
        bool_or(items.is_contradicted) as is_fee_contradicted,
        bool_or(
            items.side = 'right'
            and kinds.compares_fees
            and items.item_type = 'capture'
            and items.currency = items.fee_currency
            and items.fee_minor <> 0
            and items.expected_fee_minor is null
        ) as has_uncontracted_fee
    from items_with_matches as items
    inner join kinds on items.reconciliation = kinds.reconciliation
    left join batches on items.batch_id = batches.batch_id
    where items.group_id is not null
    group by items.group_id
),

-- What a rule tolerates in the pair's currency; of an absolute and a relative tolerance the larger counts. Days are business
-- days of our side's calendar; without one all days count.
tolerated as (
    select
        paired.*,
        coalesce(left_day.business_day_no - right_day.business_day_no, paired.left_date - paired.right_date) as days_early,
        coalesce(right_day.business_day_no - expected_day.business_day_no, paired.right_date - paired.expected_date) as days_late,
        greatest(
            coalesce(own.rounding_minor, every.rounding_minor, 0),
            floor(abs(paired.left_minor) * coalesce(own.rounding_bps, every.rounding_bps, 0) / 10000)
        ) as rounding_minor,
        greatest(
            coalesce(own.fee_tolerance_minor, every.fee_tolerance_minor, 0),
            floor(abs(paired.expected_fee_minor) * coalesce(own.fee_tolerance_bps, every.fee_tolerance_bps, 0) / 10000)
        ) as fee_tolerance_minor,
        coalesce(own.fx_tolerance_minor, every.fx_tolerance_minor, 0) as fx_tolerance_minor
    from paired
    left join tolerances as own on paired.rule_id = own.rule_id and paired.currency = own.currency
    left join tolerances as every on paired.rule_id = every.rule_id and every.currency = '*'
    left join days as left_day on paired.left_calendar = left_day.calendar and paired.left_date = left_day.calendar_date
    left join days as right_day on paired.left_calendar = right_day.calendar and paired.right_date = right_day.calendar_date
    left join days as expected_day on paired.left_calendar = expected_day.calendar and paired.expected_date = expected_day.calendar_date
),

-- Keys of one-sided items that this or an earlier close has seen before. Who has no reference is known by the fallback key,
-- where that names an event. Earlier closes are asked key by key through the index: `offset 0` keeps the planner
-- from reading all of them.
one_sided as (
    select
        items.item_key, items.reconciliation, items.strong_key, items.weak_key, items.calendar, items.value_date, items.batch_id,
        items.amount_minor,
        -- What shares the key of a total is no repetition for that.
        items.reconciliation in (select reconciliation from rules where pairing = 'total') as is_of_total
    from items_with_matches as items
    where items.group_id is null and items.side = 'right' and items.exclusion_reason is null and not items.is_unlinked
),

unreferenced as (
    select one_sided.*, rules.window_business_days
    from one_sided
    inner join rules
        on one_sided.reconciliation = rules.reconciliation
        and rules.key_column = 'weak_key'
        and rules.names_event
    where one_sided.strong_key is null
),

seen as (
    select
        one_sided.item_key,
        bool_or(
            earlier_items.ledger_date is not null and earlier_items.reported_date is not null
            and (not one_sided.is_of_total or earlier_items.side = 'right' and earlier_items.amount_minor = one_sided.amount_minor)
        ) as was_paired,
        bool_or(earlier_items.exclusion_reason = 'FAILED') as had_failed,
        false as is_replacement
    from one_sided
    cross join lateral (
        select {{ earlier_columns.keys() | join(', ') }}
        from earlier_items as found
        where found.strong_key = one_sided.strong_key

        offset 0
    ) as earlier_items
    inner join close_chain on earlier_items.close_id = close_chain.close_id
    where one_sided.reconciliation = earlier_items.reconciliation
        and one_sided.item_key <> earlier_items.item_key
    group by one_sided.item_key
    union all
    select unreferenced.item_key, true, false, false
    from unreferenced
    cross join lateral (
        select {{ earlier_columns.keys() | join(', ') }}
        from earlier_items as found
        where found.weak_key = unreferenced.weak_key and found.strong_key is null and found.side = 'right'

        offset 0
    ) as earlier_items
    inner join close_chain on close_chain.close_id = earlier_items.close_id
    left join days as our_day on unreferenced.calendar = our_day.calendar and unreferenced.value_date = our_day.calendar_date
    left join days as their_day on unreferenced.calendar = their_day.calendar and earlier_items.value_date = their_day.calendar_date
    where unreferenced.reconciliation = earlier_items.reconciliation
        and unreferenced.item_key <> earlier_items.item_key
        and earlier_items.ledger_date is not null
        and earlier_items.reported_date is not null
        and abs(coalesce(our_day.business_day_no - their_day.business_day_no, unreferenced.value_date - earlier_items.value_date))
        <= unreferenced.window_business_days
    union all
    select
        one_sided.item_key,
        false,
        bool_or(items.exclusion_reason = 'FAILED'),
        -- What the same delivery took back under this key.
        bool_or(items.intrinsic_code = 'RETRO_CORRECTION' and items.side = 'right' and items.batch_id = one_sided.batch_id)
    from one_sided
    inner join items_with_matches as items
        on one_sided.strong_key = items.strong_key
        and one_sided.reconciliation = items.reconciliation
        and one_sided.item_key <> items.item_key
    group by one_sided.item_key
),

seen_before as (
    select item_key, bool_or(was_paired) as was_paired, bool_or(had_failed) as had_failed, bool_or(is_replacement) as is_replacement
    from seen
    group by item_key
),

coded as (
    select
        items.*,
        paired.left_minor as group_left_minor,
        paired.right_minor as group_right_minor,
        paired.fee_variance_minor,
        paired.left_as_of,
        paired.right_as_of,
        paired.is_one_currency,
        paired.left_date as ledger_date,
        paired.right_date as reported_date,
        kinds.coverage,
        kinds.right_sign,
        case
            when items.exclusion_reason is not null or items.is_future_dated then null
            -- Nothing is owed, so nobody answers.
            when items.side = 'left' and items.amount_minor = 0 and paired.group_id is null then null
            when items.rule_id in ('corrected', 'manual_force', 'manual_exclude') then null

            when paired.group_id is not null then case
                when not paired.is_one_currency then 'CURRENCY_MISMATCH'
                when paired.left_minor <> paired.right_minor then case
                    -- Of a total, more of either side may come until it is due.
                    when rules.pairing = 'total' and paired.due_date >= {{ business_date() }} then 'EXPECTED_NOT_DUE'
                    when paired.has_returned_payout then kinds.taken_back_code
                    when paired.left_minor = -paired.right_minor and kinds.right_sign <> 0 then 'DIRECTION'
                    when paired.has_reserve_hold and paired.right_minor between 0 and paired.left_minor then 'RESERVE_HELD'
                    when abs(paired.left_minor - paired.right_minor) <= paired.rounding_minor then 'ROUNDING'
                    when kinds.mismatch_code is not null then kinds.mismatch_code
                    when abs(paired.right_minor) < abs(paired.left_minor)
                        and abs(paired.left_minor - paired.right_minor) > abs(paired.left_minor) * rules.split_share then 'SPLIT_INCOMPLETE'
                    when abs(paired.right_minor) < abs(paired.left_minor) then 'UNDER'
                    else 'OVER'
                end
                -- Who links two items knows their dates.
                when kinds.checks_dates and items.rule_id <> 'manual_link' and (
                    paired.days_early > rules.early_business_days or paired.days_late > rules.window_business_days
                ) then 'DATE_OUT_OF_WINDOW'
                when abs(paired.fee_variance_minor) > paired.fee_tolerance_minor or paired.is_fee_contradicted then 'FEE_VARIANCE'
                when paired.has_uncontracted_fee then 'FEE_DATA_MISSING'
                when paired.is_rate_missing then 'FX_RATE_UNAVAILABLE'
                when abs(paired.fx_variance_minor) > paired.fx_tolerance_minor then 'FX_DIFFERENCE'
            end

            when items.intrinsic_code is not null then items.intrinsic_code
            when items.decision = 'ambiguous' then 'AMBIGUOUS'

            when items.item_type = 'reserve_hold' then 'RESERVE_HELD'
            when items.side = 'left' then case
                when items.due_date >= {{ business_date() }} then 'EXPECTED_NOT_DUE'
                when kinds.coverage = 'always' or coverage.covered_until >= items.expected_date then kinds.left_alone_code
                else 'MISSING_OVERDUE'
            end

            when seen_before.is_replacement then 'RETRO_CORRECTION'
            when items.decision = 'left_over' or seen_before.was_paired then case
                when items.is_reversal or sign(items.amount_minor) = -kinds.right_sign then coalesce(kinds.taken_back_code, kinds.right_alone_code)
                else coalesce(kinds.repeat_code, kinds.right_alone_code)
            end
            when seen_before.had_failed then 'STATUS'
            when {{ business_date_of("items.occurred_at + " ~ term('processors', 'cutoff_grace_seconds') ~ " * interval '1 second'") }} > {{ business_date() }}
                and items.reconciliation = 'payment_processor'
                then 'CUTOFF_TEMPORARY'
            when items.item_type = 'refund_reversal' then 'REFUND_REVERSED'
            when items.item_type = 'chargeback_reversal' then 'CHARGEBACK_REVERSED'
            else kinds.right_alone_code
        end as break_code
    from items_with_matches as items
    inner join kinds on items.reconciliation = kinds.reconciliation
    left join tolerated as paired on items.group_id = paired.group_id
    left join rules on items.rule_id = rules.rule_id
    left join seen_before on items.item_key = seen_before.item_key
    {{ join_terms('processors', 'processor', 'items.processor', 'items.value_date') }}
    left join coverage
        on coverage.origin = case kinds.coverage when 'bank_account' then 'bank' else items.processor end
        and coverage.origin_account = case kinds.coverage when 'bank_account' then items.bank_account else items.processor_account end
),

judged as (
    select
        coded.*,
        -- A bank that keeps something of a credit, or takes something on top of a debit.
        coalesce(
            coded.coverage = 'bank_account'
            and (coded.right_sign = 1 and coded.break_code = 'UNDER' or coded.right_sign = -1 and coded.break_code = 'OVER'),
            false
        ) as is_bank_charge,
        case
            when coded.exclusion_reason is not null or coded.is_future_dated or coded.rule_id = 'manual_exclude' then 'excluded'
            when coded.break_code is not null then 'open'
            when coded.group_id is not null then 'matched'
            else 'excluded'
        end as status
    from coded
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        item_key,
        reconciliation,
        side,
        item_type,
        status,
        break_code,
        case
            when exclusion_reason is not null then exclusion_reason
            when is_future_dated then 'FUTURE_DATED'
            when rule_id = 'manual_exclude' then 'MANUAL'
            when status = 'excluded' then 'NOTHING_TO_PAY'
        end as exclusion_reason,
        rule_id,
        group_id,
        source_reference,
        source_name,
        source_table,
        amount_minor,
        currency,
        case when status = 'excluded' then 0 when side = 'left' then amount_minor else -amount_minor end as clearing_minor,
        clearing_account,
        group_left_minor::bigint as group_left_minor,
        group_right_minor::bigint as group_right_minor,
        -- What the sides differ by, and what it is: the part that names itself, and the rest.
        case when is_one_currency then (group_right_minor - group_left_minor)::bigint end as difference_minor,
        case when is_one_currency then case when is_bank_charge or break_code = 'FEE_VARIANCE' then group_right_minor - group_left_minor else 0 end::bigint end as difference_fee_minor,
        case when is_one_currency then case when break_code = 'FX_DIFFERENCE' then group_right_minor - group_left_minor else 0 end::bigint end as difference_fx_minor,
        case when is_one_currency then case when break_code = 'ROUNDING' then group_right_minor - group_left_minor else 0 end::bigint end as difference_rounding_minor,
        case when is_one_currency then case
            when is_bank_charge or break_code in ('FEE_VARIANCE', 'FX_DIFFERENCE', 'ROUNDING') then 0 else group_right_minor - group_left_minor
        end::bigint end as difference_remainder_minor,
        left_as_of,
        right_as_of,
        fee_minor,
        fee_currency,
        interchange_minor,
        scheme_fee_minor,
        fx_variance_minor,
        is_rate_missing,
        expected_fee_minor,
        fee_schedule_id,
        fee_variance_minor::bigint as fee_variance_minor,
        processor,
        processor_account,
        bank_account,
        merchant_id,
        market,
        method_type,
        network,
        strong_key,
        weak_key,
        pool_key,
        batch_key,
        occurred_at,
        value_date,
        ledger_date,
        reported_date,
        expected_date,
        due_date,
        intrinsic_code,
        is_reversal,
        is_carried,
        is_entering,
        case when status = 'open' then coalesce(first_seen_business_date, {{ business_date() }}) end as first_seen_business_date,
        case
            when status <> 'open' then null
            when carried_break_code = break_code then last_changed_business_date
            else {{ business_date() }}
        end as last_changed_business_date,
        batch_id,
        file_id,
        line_no,
        coalesce(correction_reason, case when break_code = 'RETRO_CORRECTION' then 'CHANGED_AT_SOURCE' end) as correction_reason
    from judged
)

select * from final

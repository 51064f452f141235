{{ config(indexes=[
    {'columns': ['close_id', 'status']},
    {'columns': ['strong_key']},
    {'columns': ['batch_key']},
]) }}
{%- set carried_columns = carried_item_columns() %}
{%- set earlier_columns = dict(carried_columns, close_id='bigint', group_id='text', ledger_date='date', reported_date='date') %}

with

items as (
    select * from {{ ref('int_items') }}
),

matches as (
    select * from {{ ref('int_matches') }}
),

rules as (
    select *
    from {{ ref('match_rules') }}
    where valid_from <= {{ business_date() }} and coalesce(valid_to, 'infinity'::date) > {{ business_date() }}
),

expected_fees as (
    select * from {{ ref('int_expected_fees') }}
),

coverage as (
    select * from {{ ref('int_coverage') }}
),

processors as (
    select * from {{ ref('processors') }}
),

close_chain as (
    select close_id from ops.close_chain({{ parent_close_id() }})
),

earlier_items as (
    select * from {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
),

pairs as (
    select
        group_id,
        sum(amount_minor) filter (where side = 'left') as left_minor,
        sum(amount_minor) filter (where side = 'right') as right_minor,
        min(currency) = max(currency) as is_one_currency
    from matches
    where decision = 'paired'
    group by group_id
),

-- Both sides of a pair see the same dates and the same fee difference, so both end with the same code.
paired as (
    select
        matches.group_id,
        pairs.left_minor,
        pairs.right_minor,
        pairs.is_one_currency,
        min(items.value_date) filter (where items.side = 'left') as left_date,
        max(items.expected_date) filter (where items.side = 'left') as expected_date,
        min(items.value_date) filter (where items.side = 'right') as right_date,
        sum(items.fee_minor - expected_fees.expected_fee_minor) as fee_variance_minor,
        bool_or(
            items.side = 'right'
            and items.reconciliation = 'payment_processor'
            and items.item_type = 'capture'
            and items.currency = items.fee_currency
            and items.fee_minor <> 0
            and expected_fees.expected_fee_minor is null
        ) as has_uncontracted_fee
    from matches
    inner join pairs on matches.group_id = pairs.group_id
    inner join items on matches.item_key = items.item_key
    left join expected_fees on items.item_key = expected_fees.item_key
    where matches.decision = 'paired'
    group by matches.group_id, pairs.left_minor, pairs.right_minor, pairs.is_one_currency
),

-- Keys of one-sided items that this or an earlier close has seen before.
one_sided as (
    select items.item_key, items.strong_key, items.batch_id
    from items
    left join matches on items.item_key = matches.item_key and matches.decision = 'paired'
    where matches.item_key is null and items.side = 'right' and items.strong_key is not null and items.exclusion_reason is null
),

seen as (
    select
        one_sided.item_key,
        bool_or(earlier_items.ledger_date is not null and earlier_items.reported_date is not null) as was_paired,
        bool_or(earlier_items.exclusion_reason = 'FAILED') as had_failed,
        false as is_replacement
    from one_sided
    inner join earlier_items on one_sided.strong_key = earlier_items.strong_key and one_sided.item_key <> earlier_items.item_key
    inner join close_chain on earlier_items.close_id = close_chain.close_id
    group by one_sided.item_key
    union all
    select
        one_sided.item_key,
        false,
        bool_or(items.exclusion_reason = 'FAILED'),
        -- What the same delivery took back under this key.
        bool_or(items.intrinsic_code = 'RETRO_CORRECTION' and items.side = 'right' and items.batch_id = one_sided.batch_id)
    from one_sided
    inner join items on one_sided.strong_key = items.strong_key and one_sided.item_key <> items.item_key
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
        matches.rule_id,
        case when matches.decision = 'paired' then matches.group_id end as group_id,
        paired.left_minor as group_left_minor,
        paired.right_minor as group_right_minor,
        paired.fee_variance_minor,
        paired.left_date as ledger_date,
        paired.right_date as reported_date,
        expected_fees.expected_fee_minor,
        case
            when items.exclusion_reason is not null or items.is_future_dated then null
            when items.reconciliation = 'batch_payout' and items.side = 'left' and items.amount_minor = 0 and paired.group_id is null then null
            when matches.rule_id = 'corrected' then null

            when paired.group_id is not null then case
                when not paired.is_one_currency then 'CURRENCY_MISMATCH'
                when paired.left_minor = -paired.right_minor and paired.left_minor <> 0 then 'DIRECTION'
                when paired.left_minor <> paired.right_minor and items.reconciliation = 'batch_payout' then 'SPLIT_MISMATCH'
                when paired.left_minor <> paired.right_minor
                    and abs(paired.left_minor - paired.right_minor) <= rules.rounding_minor then 'ROUNDING'
                when items.reconciliation = 'processor_bank'
                    and abs(paired.right_minor) < abs(paired.left_minor)
                    and abs(paired.left_minor - paired.right_minor) > abs(paired.left_minor) * rules.split_share then 'SPLIT_INCOMPLETE'
                when abs(paired.right_minor) < abs(paired.left_minor) then 'UNDER'
                when abs(paired.right_minor) > abs(paired.left_minor) then 'OVER'
                when items.reconciliation = 'payment_processor' and (
                    paired.right_date < paired.left_date - 1
                    or paired.right_date > paired.expected_date + rules.window_days
                ) then 'DATE_OUT_OF_WINDOW'
                when abs(paired.fee_variance_minor) > rules.fee_tolerance_minor then 'FEE_VARIANCE'
                when paired.has_uncontracted_fee then 'FEE_DATA_MISSING'
            end

            when items.intrinsic_code is not null then items.intrinsic_code
            when matches.decision = 'ambiguous' then 'AMBIGUOUS'

            when items.reconciliation = 'batch_payout' then
                case when items.due_date >= {{ business_date() }} then 'EXPECTED_NOT_DUE' else 'SPLIT_MISMATCH' end

            when items.item_type = 'reserve_hold' then 'RESERVE_HELD'
            when items.side = 'left' then case
                when items.due_date >= {{ business_date() }} then 'EXPECTED_NOT_DUE'
                when coalesce(coverage.covered_until >= items.expected_date, false) then
                    case items.reconciliation when 'processor_bank' then 'PSP_NOT_BANK' else 'IN_LEDGER_NOT_PSP' end
                else 'MISSING_OVERDUE'
            end

            when seen_before.is_replacement then 'RETRO_CORRECTION'
            when items.reconciliation = 'processor_bank' then case
                when (matches.decision = 'left_over' or seen_before.was_paired)
                    and (items.is_reversal or items.amount_minor < 0) then 'PAYOUT_RETURNED'
                when matches.decision = 'left_over' or seen_before.was_paired then 'DUPLICATE'
                else 'BANK_NOT_PSP'
            end

            when matches.decision = 'left_over' or seen_before.was_paired then 'DUPLICATE'
            when seen_before.had_failed then 'STATUS'
            when items.item_type = 'refund_reversal' then 'REFUND_REVERSED'
            when items.item_type = 'chargeback_reversal' then 'CHARGEBACK_REVERSED'
            when items.value_date = {{ business_date() }}
                and {{ business_date_of("items.occurred_at + processors.cutoff_grace_seconds * interval '1 second'") }} > items.value_date
                then 'CUTOFF_TEMPORARY'
            else 'IN_PSP_NOT_LEDGER'
        end as break_code
    from items
    left join matches on items.item_key = matches.item_key
    left join paired on matches.group_id = paired.group_id and matches.decision = 'paired'
    left join rules on matches.rule_id = rules.rule_id
    left join expected_fees on items.item_key = expected_fees.item_key
    left join seen_before on items.item_key = seen_before.item_key
    left join processors on items.processor = processors.processor
    left join coverage
        on coverage.origin = case items.reconciliation when 'processor_bank' then 'bank' else items.processor end
        and coverage.origin_account = case items.reconciliation when 'processor_bank' then items.bank_account else items.processor_account end
),

judged as (
    select
        coded.*,
        case
            when coded.exclusion_reason is not null or coded.is_future_dated then 'excluded'
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
        fee_minor,
        fee_currency,
        expected_fee_minor,
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

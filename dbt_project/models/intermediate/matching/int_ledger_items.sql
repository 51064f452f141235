-- What our own ledger expects a processor to settle: the left side of payment_processor.
with

captures as (
    select * from {{ ref('stg_payments__captures') }}
),

refunds as (
    select * from {{ ref('stg_payments__refunds') }}
),

disputes as (
    select * from {{ ref('stg_payments__disputes') }}
),

payments as (
    select * from {{ ref('int_payments') }}
),

processors as (
    select * from {{ ref('processors') }}
),

-- Signed amounts: what the processor owes us is positive. standing = what this version stands for in the books.
movements as (
    select
        'capture' as item_type, 'capture' as family, 'captures' as source_table, capture_id as movement_id, payment_id,
        psp_reference, processor, currency, amount_minor as control_minor, amount_minor as standing_minor,
        prior_currency, coalesce(prior_amount_minor, 0) as prior_standing_minor, null as not_expected_reason,
        captured_at as occurred_at, is_deleted, has_prior_version, has_stood, version_rank, version_no, batch_id
    from captures
    union all
    select
        'refund', 'refund', 'refunds', refund_id, payment_id,
        psp_reference, processor, currency, amount_minor, case when status = 'succeeded' then -amount_minor else 0 end,
        prior_currency, case when prior_status = 'succeeded' then -prior_amount_minor else 0 end,
        case when status = 'failed' then 'FAILED' when status <> 'succeeded' then 'NOT_FINAL' end,
        refunded_at, is_deleted, has_prior_version, has_stood, version_rank, version_no, batch_id
    from refunds
    union all
    select
        case stage when 'won' then 'chargeback_reversal' else 'chargeback' end,
        case stage when 'won' then 'chargeback_reversal' else 'chargeback' end,
        'disputes', dispute_id || ':' || stage, payment_id,
        psp_reference, processor, currency, amount_minor,
        case stage when 'chargeback' then -amount_minor when 'won' then amount_minor else 0 end,
        prior_currency,
        case
            when not has_prior_version then 0
            when stage = 'chargeback' then -prior_amount_minor
            when stage = 'won' then prior_amount_minor
            else 0
        end,
        case when stage not in ('chargeback', 'won') then 'NO_SETTLEMENT_EXPECTED' end,
        stage_at, is_deleted, has_prior_version, has_stood, version_rank, version_no, batch_id
    from disputes
),

judged as (
    select
        movements.*,
        {{ business_date_of('occurred_at') }} as value_date,
        coalesce(prior_currency <> currency, false) as currency_changed,
        case
            when version_rank > 1 then 'SUPERSEDED_VERSION'
            when is_deleted and prior_standing_minor = 0 then 'GONE_AT_SOURCE'
            when has_prior_version and prior_currency = currency and standing_minor = prior_standing_minor
                and not_expected_reason is distinct from 'FAILED' then 'UNCHANGED_VERSION'
            when not_expected_reason is not null and prior_standing_minor = 0 then not_expected_reason
        end as exclusion_reason
    from movements
),

-- A change of what an earlier close took is a correction of its own: the difference, or in another currency the
-- new amount and a row that takes the old one back. So is what was taken back once and comes again.
items as (
    select
        item_type || ':' || movement_id
        || case when exclusion_reason is not null or version_no > 1 then '@' || version_no else '' end as item_key,
        case
            when exclusion_reason is not null then control_minor
            when currency_changed then standing_minor
            else standing_minor - prior_standing_minor
        end as item_minor,
        currency as item_currency,
        1 as control_count,
        control_minor as counted_minor,
        case when exclusion_reason is null and has_stood then 'RETRO_CORRECTION' end as intrinsic_code,
        {{ correction_reason('exclusion_reason is null and has_stood') }} as correction_reason,
        judged.*
    from judged
    union all
    select
        item_type || ':' || movement_id || '@' || version_no || ':taken_back',
        -prior_standing_minor,
        prior_currency,
        0,
        0,
        'RETRO_CORRECTION',
        'CHANGED_AT_SOURCE',
        judged.*
    from judged
    where currency_changed and prior_standing_minor <> 0 and exclusion_reason is null
),

final as (
    select
        items.item_key,
        'payment_processor' as reconciliation,
        'left' as side,
        items.item_type,
        items.movement_id as source_reference,
        'payments' as source_name,
        items.source_table,
        'amount_minor' as control_measure,
        items.control_count,
        items.counted_minor as control_minor,
        items.currency as control_currency,
        items.item_minor as amount_minor,
        items.item_currency as currency,
        'psp_clearing:' || items.processor as clearing_account,
        items.processor,
        payments.processor_account,
        null::text as bank_account,
        payments.merchant_id,
        payments.market,
        payments.method_type,
        payments.network,
        case when items.psp_reference is not null
            then items.processor || '|' || items.psp_reference || '|' || items.family end as strong_key,
        case when payments.merchant_reference is not null
            then items.processor || '|' || payments.merchant_reference || '|' || items.family
                || '|' || items.item_currency || '|' || items.item_minor end as weak_key,
        null::text as pool_key,
        null::text as batch_key,
        items.occurred_at,
        items.value_date,
        -- A processor without terms or a currency without a calendar is held to calendar days.
        coalesce(expected_day.calendar_date, items.value_date + coalesce(processors.settlement_lag_business_days, 0)) as expected_date,
        coalesce(
            due_day.calendar_date,
            items.value_date + coalesce(processors.settlement_lag_business_days + processors.grace_business_days, 1)
        ) as due_date,
        null::bigint as fee_minor,
        null::text as fee_currency,
        null::bigint as fx_variance_minor,
        false as is_rate_missing,
        items.intrinsic_code,
        items.correction_reason,
        items.exclusion_reason,
        false as is_reversal,
        items.batch_id,
        null::bigint as file_id,
        null::integer as line_no
    from items
    left join processors on items.processor = processors.processor
    left join payments on items.payment_id = payments.payment_id
    {{ join_business_day('start_day', 'expected_day', 'items.currency', 'items.value_date', 'processors.settlement_lag_business_days') }}
    {{ join_business_day('grace_day', 'due_day', 'items.currency', 'expected_day.calendar_date', 'processors.grace_business_days') }}
)

select * from final

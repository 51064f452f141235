-- What our own ledger expects a processor to settle: the left side of payment_processor.
{%- set lag = term('processors', 'settlement_lag_business_days') %}
{%- set grace = term('processors', 'grace_business_days') %}

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

settlement_accounts as (
    select * from {{ ref('settlement_accounts') }}
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
    select {{ as_item({
        'item_key': 'items.item_key',
        'reconciliation': "'payment_processor'",
        'side': "'left'",
        'item_type': 'items.item_type',
        'source_reference': 'items.movement_id',
        'source_name': "'payments'",
        'source_table': 'items.source_table',
        'control_measure': "'amount_minor'",
        'control_count': 'items.control_count',
        'control_minor': 'items.counted_minor',
        'control_currency': 'items.currency',
        'amount_minor': 'items.item_minor',
        'currency': 'items.item_currency',
        'clearing_account': "'psp_clearing:' || items.processor",
        'processor': 'items.processor',
        'processor_account': 'payments.processor_account',
        'merchant_id': 'payments.merchant_id',
        'market': 'payments.market',
        'method_type': 'payments.method_type',
        'network': 'payments.network',
        'strong_key': "items.processor || '|' || items.psp_reference || '|' || items.family",
        'weak_key': "
            items.processor || '|' || payments.merchant_reference || '|' || items.family
            || '|' || items.item_currency || '|' || items.item_minor",
        'occurred_at': 'items.occurred_at',
        'value_date': 'items.value_date',
        'expected_date': 'coalesce(expected_day.calendar_date, items.value_date + ' ~ lag ~ ')',
        'due_date': 'coalesce(due_day.calendar_date, items.value_date + ' ~ lag ~ ' + ' ~ grace ~ ')',
        'intrinsic_code': 'items.intrinsic_code',
        'correction_reason': 'items.correction_reason',
        'exclusion_reason': 'items.exclusion_reason',
        'batch_id': 'items.batch_id',
    }) }}
    from items
    left join payments on items.payment_id = payments.payment_id
    left join settlement_accounts
        on items.processor = settlement_accounts.processor
        and payments.processor_account = settlement_accounts.processor_account
        and items.currency = settlement_accounts.currency
        and {{ holds_on('settlement_accounts', 'items.value_date') }}
    {{ join_terms('processors', 'processor', 'items.processor', 'items.value_date') }}
    -- Without a calendar all days count.
    {{ join_business_day('start_day', 'expected_day', 'coalesce(settlement_accounts.calendar, items.currency)', 'items.value_date', lag) }}
    {{ join_business_day('grace_day', 'due_day', 'coalesce(settlement_accounts.calendar, items.currency)', 'expected_day.calendar_date', grace) }}
)

select * from final

-- What happened, as the books see it: the payment system's events, processors' lines and banks' entries. Never matches.
{%- set dims = 'event_key, event_type, model, processor, bank_account, value_date, event_date, gross_minor, gross_currency, fee_minor, net_minor, net_currency, platform_fee_minor' %}

with

captures as (
    select * from {{ ref('stg_payments__captures') }} where version_rank = 1
),

refunds as (
    select * from {{ ref('stg_payments__refunds') }} where version_rank = 1
),

disputes as (
    select * from {{ ref('stg_payments__disputes') }} where version_rank = 1
),

payouts as (
    select * from {{ ref('stg_payments__payouts') }} where version_rank = 1
),

fx_conversions as (
    select * from {{ ref('stg_payments__fx_conversions') }} where version_rank = 1
),

payments as (
    select * from {{ ref('int_payments') }}
),

lines as (
    select * from {{ ref('stg_files__settlement_lines') }}
),

entries as (
    select * from {{ ref('stg_files__bank_entries') }}
),

statements as (
    select * from {{ ref('stg_files__bank_statements') }}
),

-- A later version of a movement books the difference to what the earlier one had booked, each in its own currency.
ledger_versions as (
    select 'capture' as event_type, 'capture:' || capture_id as movement, payment_id, captured_at as happened_at,
        amount_minor, currency, coalesce(prior_amount_minor, 0) as prior_minor, prior_currency, has_prior_version, batch_id
    from captures
    union all
    select 'refund', 'refund:' || refund_id, payment_id, refunded_at,
        case when status = 'succeeded' then amount_minor else 0 end, currency,
        case when prior_status = 'succeeded' then prior_amount_minor else 0 end, prior_currency, has_prior_version, batch_id
    from refunds
    union all
    select case stage when 'chargeback' then 'chargeback' else 'chargeback_' || stage end, 'dispute:' || dispute_id || ':' || stage,
        payment_id, stage_at, amount_minor, currency, coalesce(prior_amount_minor, 0), prior_currency, has_prior_version, batch_id
    from disputes
),

ledger_amounts as (
    select event_type, movement, payment_id, happened_at, has_prior_version, batch_id, currency, amount_minor as booked_minor
    from ledger_versions
    union all
    select event_type, movement, payment_id, happened_at, has_prior_version, batch_id, prior_currency, -prior_minor
    from ledger_versions
    where prior_minor <> 0
),

ledger_differences as (
    select
        event_type, movement, payment_id, happened_at, has_prior_version, batch_id, currency,
        sum(booked_minor)::bigint as gross_minor
    from ledger_amounts
    group by event_type, movement, payment_id, happened_at, has_prior_version, batch_id, currency
    having sum(booked_minor) <> 0
),

ledger_events as (
    select
        movement || ':' || ledger_differences.currency
        || case when has_prior_version then '@' || batch_id else '' end as event_key,
        event_type,
        payments.merchant_model as model,
        payments.processor,
        null::text as bank_account,
        {{ business_date_of('happened_at') }} as value_date,
        {{ business_date_of('happened_at') }} as event_date,
        gross_minor,
        ledger_differences.currency as gross_currency,
        0::bigint as fee_minor,
        0::bigint as net_minor,
        ledger_differences.currency as net_currency,
        case when event_type = 'capture' and payments.merchant_model = 'platform'
            then {{ round_half_even('gross_minor::numeric * payments.platform_fee_bps / 10000') }}
            else 0 end as platform_fee_minor
    from ledger_differences
    inner join payments on ledger_differences.payment_id = payments.payment_id
),

payout_events as (
    select
        'payout:' || payout_id || ':sent' as event_key, 'payout_sent' as event_type, 'any' as model, null::text as processor, bank_account,
        {{ business_date_of('sent_at') }} as value_date, {{ business_date_of('sent_at') }} as event_date,
        amount_minor + fee_minor as gross_minor, currency as gross_currency, fee_minor, amount_minor as net_minor,
        currency as net_currency, 0::bigint as platform_fee_minor
    from payouts
    where prior_status is null
    union all
    select
        'payout:' || payout_id || ':returned', 'payout_returned', 'any', null, bank_account,
        {{ business_date_of('updated_at') }}, {{ business_date_of('updated_at') }},
        amount_minor, currency, 0, amount_minor, currency, 0
    from payouts
    where status = 'returned' and coalesce(prior_status, '') <> 'returned'
),

fx_events as (
    select
        'fx:' || fx_conversion_id || ':sold' as event_key, 'fx_sold' as event_type, 'any' as model, null::text as processor,
        sell_bank_account as bank_account, value_date, {{ business_date_of('executed_at') }} as event_date,
        sell_amount_minor as gross_minor, sell_currency as gross_currency, 0::bigint as fee_minor, 0::bigint as net_minor,
        sell_currency as net_currency, 0::bigint as platform_fee_minor
    from fx_conversions
    where not has_prior_version
    union all
    select
        'fx:' || fx_conversion_id || ':bought', 'fx_bought', 'any', null, buy_bank_account,
        value_date, {{ business_date_of('executed_at') }}, buy_amount_minor, buy_currency, 0, 0, buy_currency, 0
    from fx_conversions
    where not has_prior_version
),

settlement_events as (
    select
        'line:' || line_key as event_key,
        case
            when item_type = 'fee' then 'processor_fee'
            when item_type in ('reserve_hold', 'reserve_release') then 'reserve'
            when item_type in ('payout', 'payout_return') then 'processor_payout'
            else 'settlement_line'
        end as event_type,
        case when gross_currency = net_currency then 'same_currency' else 'cross_currency' end as model,
        processor, null::text as bank_account, booked_date as value_date, booked_date as event_date,
        gross_minor, gross_currency, fee_minor, net_minor, net_currency, 0::bigint as platform_fee_minor
    from lines
),

bank_events as (
    select
        'entry:' || entry_key as event_key,
        'bank_' || entry_class as event_type,
        'any' as model, processor, bank_account, value_date, booking_date as event_date,
        0::bigint as gross_minor, currency as gross_currency, 0::bigint as fee_minor, amount_minor as net_minor,
        currency as net_currency, 0::bigint as platform_fee_minor
    from entries
),

-- The balance an account had when the books first saw it.
first_statements as (
    select
        statements.*,
        row_number() over (
            partition by bank_account order by closing_date, sequence_number nulls last, statement_no
        ) as statement_rank,
        bool_or(not is_consumed_now) over (partition by bank_account) as is_known_account
    from statements
),

opening_events as (
    select
        'opening:' || bank_account as event_key, 'bank_opening' as event_type, 'any' as model, null::text as processor, bank_account,
        coalesce(opening_date, closing_date) as value_date, coalesce(opening_date, closing_date) as event_date,
        0::bigint as gross_minor, currency as gross_currency, 0::bigint as fee_minor, opening_minor as net_minor,
        currency as net_currency, 0::bigint as platform_fee_minor
    from first_statements
    where statement_rank = 1 and not is_known_account and opening_minor is not null
),

final as (
    select {{ dims }} from ledger_events
    union all
    select {{ dims }} from payout_events
    union all
    select {{ dims }} from fx_events
    union all
    select {{ dims }} from settlement_events
    union all
    select {{ dims }} from bank_events
    union all
    select {{ dims }} from opening_events
)

select * from final

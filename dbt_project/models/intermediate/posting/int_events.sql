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

booked_terms as (
    select * from {{ ref('int_booked_terms') }}
),

lines as (
    select * from {{ ref('stg_files__settlement_lines') }} where version_reason is null
),

entries as (
    select * from {{ ref('stg_files__bank_entries') }} where version_reason is null
),

openings as (
    select * from {{ ref('int_bank_openings') }}
),

invoice_lines as (
    select * from {{ ref('stg_files__invoice_lines') }} where version_reason is null
),

-- Since when a processor invoices: what it deducts for an invoice from then on pays what the invoice booked.
invoiced_since as (
    select processor, min(valid_from) as invoiced_since
    from {{ ref('stg_payments__fee_schedules') }}
    where billing = 'invoice'
    group by processor
),

ledger_entries as (
    select entries.*
    from {{ ref('stg_payments__ledger_entries') }} as entries
    inner join {{ ref('bank_accounts') }} as accounts
        on entries.bank_account = accounts.bank_account and accounts.is_in_system_book
    where entries.version_rank = 1
),

book_openings as (
    select * from {{ ref('int_book_openings') }} where book_minor <> 0
),

book_closings as (
    select * from {{ ref('int_book_closings') }}
),

-- What each version stands for in the books, and what the version before this close stood for: the difference is
-- booked, each in its own currency.
versions as (
    select 'capture' as event_type, 'capture:' || capture_id as movement, payment_id, processor, null::text as bank_account,
        captured_at as happened_at, null::date as value_date, currency, amount_minor as gross_minor, 0::bigint as fee_minor,
        prior_currency, coalesce(prior_amount_minor, 0) as prior_gross_minor, 0::bigint as prior_fee_minor, version_no
    from captures
    union all
    select 'refund', 'refund:' || refund_id, payment_id, processor, null, refunded_at, null,
        currency, case when status = 'succeeded' then amount_minor else 0 end, 0,
        prior_currency, case when prior_status = 'succeeded' then prior_amount_minor else 0 end, 0, version_no
    from refunds
    union all
    select case stage when 'chargeback' then 'chargeback' else 'chargeback_' || stage end, 'dispute:' || dispute_id || ':' || stage,
        payment_id, processor, null, stage_at, null,
        currency, amount_minor, 0, prior_currency, coalesce(prior_amount_minor, 0), 0, version_no
    from disputes
    union all
    select 'merchant_payout', 'payout:' || payout_id, null, null, bank_account,
        case when status = 'returned' then updated_at else sent_at end, null,
        currency, case when status = 'returned' then 0 else amount_minor end + fee_minor, fee_minor,
        prior_currency,
        case when prior_status is null or prior_status = 'returned' then 0 else prior_amount_minor end + coalesce(prior_fee_minor, 0),
        coalesce(prior_fee_minor, 0), version_no
    from payouts
    union all
    select 'fx_sold', 'fx:' || fx_conversion_id || ':sold', null, null, sell_bank_account, executed_at, value_date,
        sell_currency, sell_amount_minor, 0, prior_sell_currency, coalesce(prior_sell_amount_minor, 0), 0, version_no
    from fx_conversions
    union all
    select 'fx_bought', 'fx:' || fx_conversion_id || ':bought', null, null, buy_bank_account, executed_at, value_date,
        buy_currency, buy_amount_minor, 0, prior_buy_currency, coalesce(prior_buy_amount_minor, 0), 0, version_no
    from fx_conversions
),

standings as (
    select event_type, movement, payment_id, processor, bank_account, happened_at, value_date, version_no,
        currency, gross_minor, fee_minor
    from versions
    union all
    select event_type, movement, payment_id, processor, bank_account, happened_at, value_date, version_no,
        prior_currency, -prior_gross_minor, -prior_fee_minor
    from versions
    where prior_gross_minor <> 0 or prior_fee_minor <> 0
),

-- What was booked keeps its terms, and a fee is that of the amount now less that of the amount before (the difference's
-- own may be rounded another way): so all of a movement comes to zero once it is taken back.
-- An event of a payment nobody knows has no model, so no rule books it and the close does not build.
valued as (
    select
        standings.*,
        case when standings.payment_id is null then 'any' else coalesce(booked_terms.merchant_model, payments.merchant_model) end as model,
        case when standings.event_type = 'capture' and coalesce(booked_terms.merchant_model, payments.merchant_model) = 'platform'
            then {{ round_half_even('standings.gross_minor::numeric * coalesce(booked_terms.platform_fee_bps, payments.platform_fee_bps) / 10000') }}
            else 0 end as platform_fee_minor
    from standings
    left join payments on standings.payment_id = payments.payment_id
    left join booked_terms on standings.movement = booked_terms.movement
),

differences as (
    select
        event_type, movement, model, processor, bank_account, happened_at, value_date, version_no, currency,
        sum(gross_minor)::bigint as gross_minor,
        sum(fee_minor)::bigint as fee_minor,
        sum(platform_fee_minor)::bigint as platform_fee_minor
    from valued
    group by event_type, movement, model, processor, bank_account, happened_at, value_date, version_no, currency
    having sum(gross_minor) <> 0 or sum(fee_minor) <> 0
),

payment_system_events as (
    select
        movement || ':' || currency || {{ version_suffix('version_no') }} as event_key,
        event_type,
        model,
        processor,
        bank_account,
        coalesce(value_date, {{ business_date_of('happened_at') }}) as value_date,
        {{ business_date_of('happened_at') }} as event_date,
        gross_minor,
        currency as gross_currency,
        fee_minor,
        -- Only a payout has a net of its own: what nobody posts is not carried.
        case when event_type = 'merchant_payout' then gross_minor - fee_minor else 0 end as net_minor,
        currency as net_currency,
        platform_fee_minor
    from differences
),

-- Of a line or entry that an earlier close took, what this version changes.
settlement_events as (
    select
        'line:' || line_key || {{ version_suffix('version_no') }} as event_key,
        case
            when family = 'invoice_deduction' and booked_date >= invoiced_since then 'invoice_deduction'
            when item_type = 'fee' then 'processor_fee'
            when item_type in ('reserve_hold', 'reserve_release') then 'reserve'
            when item_type in ('payout', 'payout_return') then 'processor_payout'
            else 'settlement_line'
        end as event_type,
        case when gross_currency = net_currency then 'same_currency' else 'cross_currency' end as model,
        lines.processor, null::text as bank_account, booked_date as value_date, booked_date as event_date,
        gross_minor - prior_gross_minor as gross_minor, gross_currency, fee_minor - prior_fee_minor as fee_minor,
        net_minor - prior_net_minor as net_minor, net_currency, 0::bigint as platform_fee_minor
    from lines
    left join invoiced_since on lines.processor = invoiced_since.processor
),

bank_events as (
    select
        'entry:' || entry_key || {{ version_suffix('version_no') }} as event_key,
        'bank_' || entry_class as event_type,
        'any' as model, processor, bank_account, value_date, booking_date as event_date,
        0::bigint as gross_minor, currency as gross_currency, 0::bigint as fee_minor,
        amount_minor - prior_amount_minor as net_minor, currency as net_currency, 0::bigint as platform_fee_minor
    from entries
),

invoice_events as (
    select
        'invoice:' || line_key || {{ version_suffix('version_no') }} as event_key,
        'processor_invoice' as event_type, 'any' as model, processor, null::text as bank_account,
        invoice_date as value_date, invoice_date as event_date,
        0::bigint as gross_minor, currency as gross_currency, 0::bigint as fee_minor,
        amount_minor - prior_amount_minor as net_minor, currency as net_currency, 0::bigint as platform_fee_minor
    from invoice_lines
),

opening_events as (
    select
        'opening:' || bank_account || ':' || currency || case when was_open then '@' || batch_id else '' end as event_key,
        'bank_opening' as event_type, 'any' as model, null::text as processor, bank_account,
        opening_date as value_date, opening_date as event_date,
        0::bigint as gross_minor, currency as gross_currency, 0::bigint as fee_minor, opening_minor as net_minor,
        currency as net_currency, 0::bigint as platform_fee_minor
    from openings
),

-- What the payment system's own book moved, for the memo account that is held against the bank's.
book_events as (
    select
        'book:' || ledger_entry_id || {{ version_suffix('version_no') }} as event_key,
        'book_movement' as event_type, 'any' as model, null::text as processor, bank_account,
        {{ business_date_of('booked_at') }} as value_date, {{ business_date_of('booked_at') }} as event_date,
        0::bigint as gross_minor, currency as gross_currency, 0::bigint as fee_minor,
        amount_minor - coalesce(prior_amount_minor, 0) as net_minor,
        currency as net_currency, 0::bigint as platform_fee_minor
    from ledger_entries
    union all
    select
        'book_opening:' || bank_account || ':' || currency || case when was_open then '@' || batch_id else '' end,
        'book_opening', 'any', null, bank_account,
        {{ business_date() }}, {{ business_date() }}, 0, currency, 0, book_minor, currency, 0
    from book_openings
    union all
    select
        'book_closing:' || bank_account || ':' || currency || ':' || {{ business_date() }}, 'book_closing', 'any', null, bank_account,
        {{ business_date() }}, {{ business_date() }}, 0, currency, 0, -book_minor, currency, 0
    from book_closings
),

final as (
    select {{ dims }} from payment_system_events
    union all
    select {{ dims }} from settlement_events
    union all
    select {{ dims }} from bank_events
    union all
    select {{ dims }} from invoice_events
    union all
    select {{ dims }} from opening_events
    union all
    select {{ dims }} from book_events
)

select * from final

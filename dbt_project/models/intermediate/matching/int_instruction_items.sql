-- What we told banks to move: merchant payouts and both legs of conversions, the left sides of payout_bank and fx_bank.
-- A conversion's day is agreed; a payout takes as long as the bank does.
{%- set lag = 'case when items.agreed_date is null then ' ~ term('bank_account_terms', 'settlement_lag_business_days') ~ ' else 0 end' %}
{%- set grace = term('bank_account_terms', 'grace_business_days') %}
{%- set started = 'coalesce(items.agreed_date, items.happened_date)' %}
{%- set calendar = 'coalesce(bank_accounts.calendar, items.item_currency)' %}

with

payouts as (
    select * from {{ ref('stg_payments__payouts') }}
),

fx_conversions as (
    select * from {{ ref('stg_payments__fx_conversions') }}
),

bank_accounts as (
    select * from {{ ref('bank_accounts') }}
),

-- Signed as the bank will book them. standing = what this version stands for in the books.
movements as (
    select
        'payout_bank' as reconciliation,
        case when status = 'returned' then 'returned_payout' else 'merchant_payout' end as item_type,
        'merchant_payout:' || payout_id as movement_key, payout_id as source_reference,
        'payouts' as source_table, 'amount_minor' as control_measure, 'payout_in_transit:' as account_prefix,
        bank_account, bank_reference, currency, amount_minor as control_minor,
        case when status = 'returned' then 0 else -amount_minor end as standing_minor,
        prior_currency,
        case when prior_status is null or prior_status = 'returned' then 0 else -prior_amount_minor end as prior_standing_minor,
        case when status = 'returned' then updated_at else sent_at end as occurred_at, null::date as agreed_date,
        status = 'returned' as is_returned, is_deleted, has_prior_version, has_stood, version_rank, version_no, batch_id
    from payouts
    union all
    select
        'fx_bank', 'fx_sold', 'fx:' || fx_conversion_id || ':sold', fx_conversion_id || ':sold',
        'fx_conversions', 'sell_amount_minor', 'fx_clearing:',
        sell_bank_account, bank_reference, sell_currency, sell_amount_minor,
        -sell_amount_minor,
        prior_sell_currency,
        -coalesce(prior_sell_amount_minor, 0),
        executed_at, value_date,
        false, is_deleted, has_prior_version, has_stood, version_rank, version_no, batch_id
    from fx_conversions
    union all
    select
        'fx_bank', 'fx_bought', 'fx:' || fx_conversion_id || ':bought', fx_conversion_id || ':bought',
        'fx_conversions', 'buy_amount_minor', 'fx_clearing:',
        buy_bank_account, bank_reference, buy_currency, buy_amount_minor,
        buy_amount_minor,
        prior_buy_currency,
        coalesce(prior_buy_amount_minor, 0),
        executed_at, value_date,
        false, is_deleted, has_prior_version, has_stood, version_rank, version_no, batch_id
    from fx_conversions
),

judged as (
    select
        movements.*,
        {{ business_date_of('occurred_at') }} as happened_date,
        coalesce(prior_currency <> currency, false) as currency_changed,
        case
            when version_rank > 1 then 'SUPERSEDED_VERSION'
            when is_deleted and prior_standing_minor = 0 then 'GONE_AT_SOURCE'
            when has_prior_version and prior_currency = currency and standing_minor = prior_standing_minor then 'UNCHANGED_VERSION'
        end as exclusion_reason
    from movements
),

-- A later version is the difference to what stood; in another currency the new amount, and the old one taken back.
items as (
    select
        movement_key || case when exclusion_reason is not null or version_no > 1 then '@' || version_no else '' end as item_key,
        case
            when exclusion_reason is not null then control_minor
            when currency_changed then standing_minor
            else standing_minor - prior_standing_minor
        end as item_minor,
        currency as item_currency,
        1 as control_count,
        control_minor as counted_minor,
        exclusion_reason is null and has_stood as is_correction,
        judged.*
    from judged
    union all
    select
        movement_key || '@' || version_no || ':taken_back',
        -prior_standing_minor,
        prior_currency,
        0,
        0,
        has_stood,
        judged.*
    from judged
    where currency_changed and prior_standing_minor <> 0 and exclusion_reason is null
),

final as (
    select {{ as_item({
        'item_key': 'items.item_key',
        'reconciliation': 'items.reconciliation',
        'side': "'left'",
        'item_type': 'items.item_type',
        'source_reference': 'items.source_reference',
        'source_name': "'payments'",
        'source_table': 'items.source_table',
        'control_measure': 'items.control_measure',
        'control_count': 'items.control_count',
        'control_minor': 'items.counted_minor',
        'control_currency': 'items.currency',
        'amount_minor': 'items.item_minor',
        'currency': 'items.item_currency',
        'clearing_account': 'items.account_prefix || items.bank_account',
        'bank_account': 'items.bank_account',
        'strong_key': "items.bank_account || '|' || items.item_currency || '|' || " ~ normalised_reference('items.bank_reference'),
        'weak_key': "items.bank_account || '|' || items.item_currency || '|' || items.item_minor",
        'occurred_at': 'items.occurred_at',
        'value_date': 'items.happened_date',
        'expected_date': 'coalesce(expected_day.calendar_date, ' ~ started ~ ' + ' ~ lag ~ ')',
        'due_date': 'coalesce(due_day.calendar_date, ' ~ started ~ ' + ' ~ lag ~ ' + ' ~ grace ~ ')',
        'intrinsic_code': "case when items.is_correction then case when items.is_returned then 'PAYOUT_RETURNED' else 'RETRO_CORRECTION' end end",
        'correction_reason': "case when items.is_correction and items.is_returned then 'RETURNED' else " ~ correction_reason('items.is_correction') ~ ' end',
        'exclusion_reason': 'items.exclusion_reason',
        'batch_id': 'items.batch_id',
    }) }}
    from items
    left join bank_accounts on items.bank_account = bank_accounts.bank_account
    {{ join_terms('bank_account_terms', 'bank_account', 'items.bank_account', 'items.happened_date') }}
    {{ join_business_day('start_day', 'expected_day', calendar, started, lag) }}
    {{ join_business_day('grace_day', 'due_day', calendar, 'expected_day.calendar_date', grace) }}
)

select * from final

-- What processors report: lines against our ledger, batches against their payout, payouts against the bank.
with

lines as (
    select * from {{ ref('stg_files__settlement_lines') }}
),

settlement_accounts as (
    select * from {{ ref('settlement_accounts') }}
),

bank_accounts as (
    select * from {{ ref('bank_accounts') }}
),

line_items as (
    select
        'line:' || line_key as item_key,
        'payment_processor' as reconciliation,
        case item_type when 'reserve_hold' then 'left' else 'right' end as side,
        case
            when psp_reference is null then processor || ':' || file_name || ':' || line_no
            when item_type = 'reserve_hold' then psp_reference
            else processor || ':' || psp_reference || ':' || record_type
        end as source_reference,
        'gross_minor' as control_measure,
        1 as control_count,
        gross_minor as control_minor,
        gross_currency as control_currency,
        case item_type when 'reserve_hold' then -gross_minor else gross_minor end as amount_minor,
        gross_currency as currency,
        case when item_type in ('reserve_hold', 'reserve_release') then 'reserve_receivable:' else 'psp_clearing:' end
        || processor as clearing_account,
        case when psp_reference is not null and item_type <> 'unmapped'
            then processor || '|' || psp_reference || '|' || family end as strong_key,
        case when merchant_reference is not null and item_type <> 'unmapped'
            then processor || '|' || merchant_reference || '|' || family || '|' || gross_currency || '|' || gross_minor end as weak_key,
        case
            when item_type = 'unmapped' then 'UNMAPPED_TYPE'
            when item_type in ('reserve_hold', 'reserve_release', 'fee', 'payout', 'payout_return') then null
            when psp_reference is null and merchant_reference is null then 'MISSING_KEY'
        end as intrinsic_code,
        case
            when item_type = 'fee' then 'PROCESSOR_FEE'
            when item_type in ('payout', 'payout_return') then 'PAYOUT_RECORD'
        end as exclusion_reason,
        null::date as expected_date,
        null::date as due_date,
        lines.*
    from lines
),

-- One item a batch, file and currency: the processor's net of everything it says it will pay out.
batch_totals as (
    select
        'batch:' || min(line_key) as item_key,
        processor,
        processor_account,
        coalesce(batch_reference, 'none') as batch_reference,
        net_currency,
        file_id,
        batch_id,
        count(*) as line_count,
        sum(net_minor)::bigint as net_minor,
        max(booked_at) as booked_at,
        max(booked_date) as booked_date
    from lines
    where item_type not in ('payout', 'payout_return')
    group by processor, processor_account, coalesce(batch_reference, 'none'), net_currency, file_id, batch_id
),

payouts as (
    select
        lines.*,
        -lines.net_minor as payout_minor,
        settlement_accounts.bank_account,
        bank_accounts.settlement_lag_business_days,
        bank_accounts.grace_business_days
    from lines
    left join settlement_accounts
        on lines.processor = settlement_accounts.processor
        and lines.processor_account = settlement_accounts.processor_account
        and lines.net_currency = settlement_accounts.currency
    left join bank_accounts on settlement_accounts.bank_account = bank_accounts.bank_account
    where lines.item_type in ('payout', 'payout_return')
),

final as (
    select
        item_key, reconciliation, side, item_type, source_reference,
        'files' as source_name, 'settlement_lines' as source_table,
        control_measure, control_count, control_minor, control_currency,
        amount_minor, currency, clearing_account, processor, processor_account,
        null::text as bank_account, null::text as merchant_id, null::text as market, null::text as method_type, null::text as network,
        strong_key, weak_key,
        processor || '|' || processor_account || '|' || coalesce(batch_reference, 'none') || '|' || net_currency as batch_key,
        occurred_at, booked_date as value_date, expected_date, due_date,
        fee_minor, net_currency as fee_currency,
        intrinsic_code, exclusion_reason, false as is_reversal, batch_id, file_id, line_no
    from line_items
    union all
    select
        item_key, 'batch_payout', 'left', 'settlement_batch',
        processor || ':' || processor_account || ':' || batch_reference || ':' || net_currency,
        'files', 'settlement_lines',
        'net_minor', line_count, net_minor, net_currency,
        net_minor, net_currency, 'psp_balance:' || processor, processor, processor_account,
        null, null, null, null, null,
        processor || '|' || processor_account || '|' || batch_reference || '|' || net_currency, null,
        processor || '|' || processor_account || '|' || batch_reference || '|' || net_currency,
        booked_at, booked_date, booked_date, booked_date + 3,
        null, null,
        null, null, false, batch_id, file_id, null
    from batch_totals
    union all
    select
        'payout:' || line_key, 'batch_payout', 'right', item_type,
        processor || ':' || processor_account || ':' || coalesce(batch_reference, 'none') || ':' || net_currency,
        'files', 'settlement_lines',
        'net_minor', 1, net_minor, net_currency,
        payout_minor, net_currency, 'psp_balance:' || processor, processor, processor_account,
        bank_account, null, null, null, null,
        processor || '|' || processor_account || '|' || coalesce(batch_reference, 'none') || '|' || net_currency, null,
        processor || '|' || processor_account || '|' || coalesce(batch_reference, 'none') || '|' || net_currency,
        booked_at, booked_date, null, null,
        null, null,
        null, null, false, batch_id, file_id, line_no
    from payouts
    union all
    select
        'transfer:' || payouts.line_key, 'processor_bank', 'left', payouts.item_type,
        payouts.processor || ':' || coalesce(payouts.psp_reference, payouts.file_name || ':' || payouts.line_no),
        'files', 'settlement_lines',
        null, 0, 0, null,
        payouts.payout_minor, payouts.net_currency, 'cash_in_transit:' || payouts.processor, payouts.processor, payouts.processor_account,
        payouts.bank_account, null, null, null, null,
        payouts.processor || '|' || payouts.psp_reference,
        payouts.processor || '|' || payouts.bank_account || '|' || payouts.payout_minor,
        payouts.processor || '|' || payouts.processor_account || '|' || coalesce(payouts.batch_reference, 'none') || '|' || payouts.net_currency,
        payouts.booked_at, payouts.booked_date,
        coalesce(expected_day.calendar_date, payouts.booked_date + 1), coalesce(due_day.calendar_date, payouts.booked_date + 2),
        null, null,
        null, null, false, payouts.batch_id, payouts.file_id, payouts.line_no
    from payouts
    {{ join_business_day('start_day', 'expected_day', 'payouts.net_currency', 'payouts.booked_date', 'payouts.settlement_lag_business_days') }}
    {{ join_business_day('grace_day', 'due_day', 'payouts.net_currency', 'expected_day.calendar_date', 'payouts.grace_business_days') }}
)

select * from final

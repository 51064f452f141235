-- Both sides of ledger_bank, a day at a time: what the payment system's own book moved on a bank account, and what the
-- bank moved. Sums of changes, so that whatever is booked later for a day moves that day's difference.
with

ledger_entries as (
    select * from {{ ref('stg_payments__ledger_entries') }}
),

entries as (
    select * from {{ ref('stg_files__bank_entries') }} where version_reason is null
),

openings as (
    select * from {{ ref('int_bank_openings') }}
),

bank_accounts as (
    select * from {{ ref('bank_accounts') }}
),

-- An append-only table has versions only where a row is gone: its difference to what stood is what moves the book.
book_days as (
    select
        bank_account,
        currency,
        {{ business_date_of('booked_at') }} as moved_date,
        batch_id,
        min(ledger_entry_id) as first_id,
        count(*) as row_count,
        sum(amount_minor)::bigint as counted_minor,
        sum(case when version_rank = 1 then amount_minor - coalesce(prior_amount_minor, 0) else 0 end)::bigint as moved_minor
    from ledger_entries
    group by bank_account, currency, {{ business_date_of('booked_at') }}, batch_id
),

bank_days as (
    select
        bank_account,
        currency,
        booking_date as moved_date,
        batch_id,
        file_id,
        min(entry_key) as first_key,
        max(version_no) as version_no,
        sum(amount_minor - prior_amount_minor)::bigint as moved_minor
    from entries
    group by bank_account, currency, booking_date, batch_id, file_id
),

movements as (
    select
        'book_day:' || bank_account || ':' || first_id as item_key, 'left' as side, 'book_day' as item_type,
        bank_account || ':' || moved_date as source_reference,
        'payments' as source_name, 'ledger_entries' as source_table, 'amount_minor' as control_measure,
        row_count as control_count, counted_minor as control_minor, currency as control_currency,
        moved_minor, currency, bank_account, moved_date, batch_id, null::bigint as file_id
    from book_days
    union all
    select
        'bank_day:' || first_key || {{ version_suffix('version_no') }}, 'right', 'bank_day',
        bank_account || ':' || moved_date,
        'files', 'bank_entries', null, 0, 0, null,
        moved_minor, currency, bank_account, moved_date, batch_id, file_id
    from bank_days
    union all
    select
        'bank_opening:' || bank_account || ':' || currency || case when was_open then '@' || batch_id else '' end,
        'right', 'bank_opening',
        bank_account || ':opening',
        'files', 'bank_statements', null, 0, 0, null,
        opening_minor, currency, bank_account, opening_date, batch_id, file_id
    from openings
),

final as (
    select
        movements.item_key, 'ledger_bank' as reconciliation, movements.side, movements.item_type, movements.source_reference,
        movements.source_name, movements.source_table,
        movements.control_measure, movements.control_count, movements.control_minor, movements.control_currency,
        movements.moved_minor as amount_minor, movements.currency,
        'system_book:' || movements.bank_account as clearing_account,
        null::text as processor, null::text as processor_account, movements.bank_account,
        null::text as merchant_id, null::text as market, null::text as method_type, null::text as network,
        movements.bank_account || '|' || movements.currency || '|' || movements.moved_date as strong_key,
        movements.bank_account || '|' || movements.currency as weak_key,
        null::text as pool_key,
        null::text as batch_key,
        null::timestamptz as occurred_at, movements.moved_date as value_date,
        case movements.side when 'left' then coalesce(expected_day.calendar_date, movements.moved_date) end as expected_date,
        case movements.side when 'left' then coalesce(due_day.calendar_date, movements.moved_date + 1) end as due_date,
        null::bigint as fee_minor, null::text as fee_currency,
        null::bigint as fx_variance_minor,
        false as is_rate_missing,
        null::text as intrinsic_code, null::text as correction_reason, null::text as exclusion_reason, false as is_reversal,
        movements.batch_id, movements.file_id, null::integer as line_no
    from movements
    left join bank_accounts on movements.bank_account = bank_accounts.bank_account
    {{ join_business_day('start_day', 'expected_day', 'movements.currency', 'movements.moved_date', '0') }}
    {{ join_business_day('grace_day', 'due_day', 'movements.currency', 'expected_day.calendar_date', 'bank_accounts.grace_business_days') }}
    -- An account that the payment system keeps no book of has nothing to agree with.
    where movements.side = 'left' or bank_accounts.is_in_system_book
)

select * from final

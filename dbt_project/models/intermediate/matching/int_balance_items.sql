-- Both sides of ledger_bank, a day at a time: what the payment system's own book moved on a bank account, and what the
-- bank moved. Sums of changes, so that whatever is booked later for a day moves that day's difference.
{%- set grace = term('bank_account_terms', 'grace_business_days') %}
{%- set calendar = 'coalesce(bank_accounts.calendar, movements.currency)' %}

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

book_openings as (
    select * from {{ ref('int_book_openings') }}
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
        -- A row that comes again, or is gone, makes another item of its day.
        (array_agg(version_no order by ledger_entry_id))[1] as version_no,
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
        'book_day:' || bank_account || ':' || first_id || {{ version_suffix('version_no') }} as item_key, 'left' as side, 'book_day' as item_type,
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
    union all
    select
        'book_opening:' || bank_account || ':' || currency || case when was_open then '@' || batch_id else '' end, 'left', 'book_opening', bank_account || ':opening',
        'payments', 'ledger_entries', null, 0, 0, null,
        book_minor, currency, bank_account, {{ business_date() }}, batch_id, null
    from book_openings
    union all
    select
        'bank_balance:' || bank_account || ':' || currency || case when was_open then '@' || batch_id else '' end, 'right', 'bank_balance', bank_account || ':opening',
        'files', 'bank_entries', null, 0, 0, null,
        bank_minor, currency, bank_account, {{ business_date() }}, batch_id, null
    from book_openings
),

final as (
    select {{ as_item({
        'item_key': 'movements.item_key',
        'reconciliation': "'ledger_bank'",
        'side': 'movements.side',
        'item_type': 'movements.item_type',
        'source_reference': 'movements.source_reference',
        'source_name': 'movements.source_name',
        'source_table': 'movements.source_table',
        'control_measure': 'movements.control_measure',
        'control_count': 'movements.control_count',
        'control_minor': 'movements.control_minor',
        'control_currency': 'movements.control_currency',
        'amount_minor': 'case when is_compared.bank_account is null then movements.control_minor else movements.moved_minor end',
        'currency': 'movements.currency',
        'clearing_account': "'system_book:' || movements.bank_account",
        'bank_account': 'movements.bank_account',
        'strong_key': "movements.bank_account || '|' || movements.currency || '|' || movements.moved_date",
        'weak_key': "movements.bank_account || '|' || movements.currency",
        'value_date': 'movements.moved_date',
        'expected_date': "case movements.side when 'left' then coalesce(expected_day.calendar_date, movements.moved_date) end",
        'due_date': "case movements.side when 'left' then coalesce(due_day.calendar_date, movements.moved_date + " ~ grace ~ ') end',
        'exclusion_reason': "case when is_compared.bank_account is null then 'NOT_COMPARED' end",
        'batch_id': 'movements.batch_id',
        'file_id': 'movements.file_id',
    }) }}
    from movements
    left join bank_accounts on movements.bank_account = bank_accounts.bank_account
    left join bank_accounts as is_compared
        on movements.bank_account = is_compared.bank_account and is_compared.is_in_system_book
    {{ join_terms('bank_account_terms', 'bank_account', 'movements.bank_account', 'movements.moved_date') }}
    {{ join_business_day('start_day', 'expected_day', calendar, 'movements.moved_date', '0') }}
    {{ join_business_day('grace_day', 'due_day', calendar, 'expected_day.calendar_date', grace) }}
    -- What the payment system's book says is counted also where nobody asks it.
    where movements.side = 'left' or is_compared.bank_account is not null
)

select * from final

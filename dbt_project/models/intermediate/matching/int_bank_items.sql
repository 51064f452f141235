-- What the banks booked: the right side of processor_bank.
with

entries as (
    select * from {{ ref('stg_files__bank_entries') }}
),

final as (
    select
        'entry:' || entry_key as item_key,
        'processor_bank' as reconciliation,
        'right' as side,
        'bank_entry' as item_type,
        bank_account || ':' || coalesce(bank_reference, file_id || ':' || line_no) as source_reference,
        'files' as source_name,
        'bank_entries' as source_table,
        'amount_minor' as control_measure,
        1 as control_count,
        amount_minor as control_minor,
        currency as control_currency,
        amount_minor,
        currency,
        case entry_class
            when 'processor_settlement' then 'cash_in_transit:' || processor
            else 'suspense:' || bank_account
        end as clearing_account,
        processor,
        null::text as processor_account,
        bank_account,
        null::text as merchant_id,
        null::text as market,
        null::text as method_type,
        null::text as network,
        case when entry_class = 'processor_settlement' and payment_reference is not null
            then processor || '|' || payment_reference end as strong_key,
        case when entry_class = 'processor_settlement'
            then processor || '|' || bank_account || '|' || amount_minor end as weak_key,
        null::text as batch_key,
        null::timestamptz as occurred_at,
        booking_date as value_date,
        null::date as expected_date,
        null::date as due_date,
        null::bigint as fee_minor,
        null::text as fee_currency,
        null::text as intrinsic_code,
        case when entry_class not in ('processor_settlement', 'unidentified') then upper(entry_class) end as exclusion_reason,
        is_reversal,
        batch_id,
        file_id,
        line_no
    from entries
)

select * from final

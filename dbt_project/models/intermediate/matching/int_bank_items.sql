-- What the banks booked: the right side of every reconciliation with a bank, by the class of the entry.
with

entries as (
    select * from {{ ref('stg_files__bank_entries') }}
),

classes as (
    select * from {{ ref('bank_entry_classes') }}
),

judged as (
    select
        entries.*,
        classes.reconciliation,
        classes.account_type || ':' || case classes.account_detail
            when 'processor' then entries.processor
            when 'bank_account' then entries.bank_account
        end as clearing_account,
        case
            when entries.version_reason is not null then entries.version_reason
            when classes.reconciliation is null then upper(entries.entry_class)
        end as exclusion_reason
    from entries
    left join classes on entries.entry_class = classes.entry_class
),

-- What asks for no partner is shown as it was counted; what does, by what it changes.
amounts as (
    select
        judged.*,
        case when exclusion_reason is null then amount_minor - prior_amount_minor else amount_minor end as item_minor
    from judged
),

final as (
    select
        'entry:' || entry_key || {{ version_suffix('version_no') }} as item_key,
        coalesce(reconciliation, 'processor_bank') as reconciliation,
        'right' as side,
        'bank_entry' as item_type,
        bank_account || ':' || coalesce(bank_reference, file_id || ':' || line_no) as source_reference,
        'files' as source_name,
        'bank_entries' as source_table,
        'amount_minor' as control_measure,
        1 as control_count,
        amount_minor as control_minor,
        currency as control_currency,
        item_minor as amount_minor,
        currency,
        coalesce(clearing_account, 'bank:' || bank_account) as clearing_account,
        processor,
        null::text as processor_account,
        bank_account,
        null::text as merchant_id,
        null::text as market,
        null::text as method_type,
        null::text as network,
        case
            when entry_class = 'processor_settlement' then processor || '|' || payment_reference
            when entry_class <> 'unidentified' then bank_account || '|' || currency || '|' || payment_reference
        end as strong_key,
        case
            when entry_class = 'processor_settlement' then processor || '|' || bank_account || '|' || item_minor
            when entry_class <> 'unidentified' then bank_account || '|' || currency || '|' || item_minor
        end as weak_key,
        case when entry_class = 'processor_settlement' then processor || '|' || bank_account || '|' || currency || '|' || booking_date end as pool_key,
        null::text as batch_key,
        null::timestamptz as occurred_at,
        booking_date as value_date,
        null::date as expected_date,
        null::date as due_date,
        null::bigint as fee_minor,
        null::text as fee_currency,
        null::bigint as fx_variance_minor,
        false as is_rate_missing,
        case when exclusion_reason is null and has_stood then 'RETRO_CORRECTION' end as intrinsic_code,
        {{ correction_reason('version_reason is null and has_stood') }} as correction_reason,
        exclusion_reason,
        is_reversal,
        batch_id,
        file_id,
        line_no
    from amounts
)

select * from final

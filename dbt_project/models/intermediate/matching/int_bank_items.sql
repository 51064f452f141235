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
    select {{ as_item({
        'item_key': "'entry:' || entry_key || " ~ version_suffix('version_no'),
        'reconciliation': "coalesce(reconciliation, 'processor_bank')",
        'side': "'right'",
        'item_type': "'bank_entry'",
        'source_reference': "bank_account || ':' || coalesce(bank_reference, file_id || ':' || line_no)",
        'source_name': "'files'",
        'source_table': "'bank_entries'",
        'control_measure': "'amount_minor'",
        'control_count': '1',
        'control_minor': 'amount_minor',
        'control_currency': 'currency',
        'amount_minor': 'item_minor',
        'currency': 'currency',
        'clearing_account': "coalesce(clearing_account, 'bank:' || bank_account)",
        'processor': 'processor',
        'bank_account': 'bank_account',
        'strong_key': "
            case
                when entry_class = 'processor_settlement' then processor || '|' || payment_reference
                when entry_class <> 'unidentified' then bank_account || '|' || currency || '|' || payment_reference
            end",
        'weak_key': "
            case
                when entry_class = 'processor_settlement' then processor || '|' || bank_account || '|' || item_minor
                when entry_class <> 'unidentified' then bank_account || '|' || currency || '|' || item_minor
            end",
        'pool_key': "
            case when entry_class = 'processor_settlement'
                then processor || '|' || bank_account || '|' || currency || '|' || booking_date end",
        'value_date': 'booking_date',
        'intrinsic_code': "case when exclusion_reason is null and has_stood then 'RETRO_CORRECTION' end",
        'correction_reason': correction_reason('version_reason is null and has_stood'),
        'exclusion_reason': 'exclusion_reason',
        'is_reversal': 'is_reversal',
        'batch_id': 'batch_id',
        'file_id': 'file_id',
        'line_no': 'line_no',
    }) }}
    from amounts
)

select * from final

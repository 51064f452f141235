{%- set columns = [
    'file_id', 'line_no', 'document_no', 'processor', 'processor_account', 'record_type', 'batch_reference',
    'psp_reference', 'original_psp_reference', 'merchant_reference', 'gross_minor', 'gross_currency', 'fee_minor',
    'interchange_minor', 'scheme_fee_minor', 'net_minor', 'net_currency', 'exchange_rate', 'occurred_at', 'booked_at',
] %}

with

consumed as (
    -- A report from before a line's payout may arrive after the one that has it: it takes nothing out of its batch.
    {{ consumed_line_versions(
        'settlement_lines', columns, ['gross_minor', 'fee_minor', 'net_minor'], part_of='batch_reference',
        by_document=true
    ) }}
),

files as (
    select * from {{ source('ops', 'files') }}
),

vocabulary as (
    select * from {{ ref('processor_vocabulary') }}
),

dated as (
    select consumed.*, {{ business_date_of('booked_at') }} as booked_date from consumed
),

-- A line that is gone was of the type that its amount made it.
typed as (
    select
        dated.*,
        {{ line_key('files', 'dated') }} as line_key,
        files.name as file_name,
        vocabulary.item_type,
        vocabulary.family
    from dated
    inner join files on dated.file_id = files.file_id
    left join vocabulary
        on dated.processor = vocabulary.processor
        and {{ holds_on('vocabulary', 'dated.booked_date') }}
        and lower(dated.record_type) = lower(vocabulary.record_type)
        and (
            vocabulary.direction = 'any'
            or vocabulary.direction = case
                when dated.is_deleted and dated.prior_net_minor < 0 then 'debit'
                when dated.net_minor < 0 then 'debit'
                else 'credit'
            end
        )
),

final as (
    select
        -- ids
        line_key,
        row_key,
        batch_reference,
        psp_reference,
        original_psp_reference,
        merchant_reference,

        -- numerics
        gross_minor,
        fee_minor,
        interchange_minor,
        scheme_fee_minor,
        net_minor,
        exchange_rate,

        -- attributes
        processor,
        processor_account,
        record_type,
        coalesce(item_type, 'unmapped') as item_type,
        coalesce(family, 'unmapped') as family,
        gross_currency,
        net_currency,
        is_deleted,

        -- timestamps
        occurred_at,
        booked_at,
        booked_date,

        -- what stood before this close
        prior_gross_minor,
        prior_fee_minor,
        prior_net_minor,
        prior_batch_reference,
        has_prior_version,
        has_stood,
        version_rank,
        version_no,
        occurrence,
        version_reason,

        file_name,
        file_id,
        line_no,
        document_no,
        batch_id
    from typed
)

select * from final

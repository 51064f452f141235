with

consumed as (
    {{ consumed_rows('files', 'settlement_lines') }}
),

files as (
    select * from {{ source('ops', 'files') }}
),

vocabulary as (
    select * from {{ ref('processor_vocabulary') }}
),

typed as (
    select
        consumed.*,
        files.sha256,
        files.name as file_name,
        vocabulary.item_type,
        vocabulary.family
    from consumed
    inner join files on consumed.file_id = files.file_id
    left join vocabulary
        on consumed.processor = vocabulary.processor
        and lower(consumed.record_type) = lower(vocabulary.record_type)
        and (
            vocabulary.direction = 'any'
            or (vocabulary.direction = 'debit' and consumed.net_minor < 0)
            or (vocabulary.direction = 'credit' and consumed.net_minor >= 0)
        )
),

final as (
    select
        -- ids
        left(sha256, 16) || ':' || line_no as line_key,
        batch_reference,
        psp_reference,
        original_psp_reference,
        merchant_reference,

        -- numerics
        gross_minor,
        fee_minor,
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

        -- timestamps
        occurred_at,
        booked_at,
        {{ business_date_of('booked_at') }} as booked_date,

        file_name,
        file_id,
        line_no,
        batch_id
    from typed
)

select * from final

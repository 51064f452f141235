{%- set columns = [
    'file_id', 'line_no', 'processor', 'processor_account', 'invoice_number', 'invoice_date', 'service_month', 'fee_type',
    'quantity', 'amount_minor', 'currency',
] %}

with

consumed as (
    {{ consumed_line_versions('invoice_lines', columns, ['amount_minor']) }}
),

files as (
    select * from {{ source('ops', 'files') }}
),

final as (
    select
        -- ids
        left(files.sha256, 16) || ':' || consumed.line_no as line_key,
        consumed.row_key,
        consumed.invoice_number,

        -- numerics
        consumed.quantity,
        consumed.amount_minor,

        -- attributes
        consumed.processor,
        consumed.processor_account,
        consumed.fee_type,
        consumed.currency,
        consumed.is_deleted,

        -- dates
        consumed.invoice_date,
        consumed.service_month,

        -- what stood before this close
        consumed.prior_amount_minor,
        consumed.has_prior_version,
        consumed.has_stood,
        consumed.version_rank,
        consumed.version_no,
        consumed.occurrence,
        consumed.version_reason,

        consumed.file_id,
        consumed.line_no,
        consumed.batch_id
    from consumed
    inner join files on consumed.file_id = files.file_id
)

select * from final

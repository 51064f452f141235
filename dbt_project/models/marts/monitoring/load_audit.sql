with

close_batches as (
    select * from {{ source('ops', 'close_batches') }} where close_id = {{ close_id() }}
),

batches as (
    select * from {{ source('ops', 'batches') }}
),

files as (
    select * from {{ source('ops', 'files') }}
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        batches.batch_id,
        batches.source,
        batches.table_name,
        files.name as file_name,
        batches.interval_start,
        batches.interval_end,
        batches.row_count,
        batches.content_until,
        batches.as_of
    from close_batches
    inner join batches on close_batches.batch_id = batches.batch_id
    left join files on batches.file_id = files.file_id
)

select * from final

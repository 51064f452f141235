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

tombstones as (
    {{ raw_tombstones() }}
),

-- Files whose documents came again, with the file that now stands for them.
superseded as (
    select documents.superseded_by as file_id, string_agg(distinct earlier.name, ', ' order by earlier.name) as superseded_files
    from {{ source('ops', 'documents') }} as documents
    inner join batches on documents.superseded_by = batches.file_id
    inner join close_batches on batches.batch_id = close_batches.batch_id
    inner join files as earlier on documents.file_id = earlier.file_id
    group by documents.superseded_by
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
        batches.as_of,
        superseded.superseded_files,
        coalesce(tombstones.gone_count, 0) as gone_count
    from close_batches
    inner join batches on close_batches.batch_id = batches.batch_id
    left join files on batches.file_id = files.file_id
    left join superseded on batches.file_id = superseded.file_id
    left join tombstones on batches.batch_id = tombstones.batch_id
)

select * from final

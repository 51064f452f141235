with

close_batches as (
    select * from {{ source('ops', 'close_batches') }} where close_id = {{ close_id() }}
),

consumed as (
    select batches.*
    from {{ source('ops', 'batches') }} as batches
    inner join close_batches on batches.batch_id = close_batches.batch_id
),

files as (
    select * from {{ source('ops', 'files') }}
),

notes as (
    select * from {{ source('ops', 'load_notes') }}
),

-- A table that was left out has no batch: its note belongs to the interval that the others were loaded for.
intervals as (
    select distinct source, interval_end from consumed where interval_end is not null
),

noted as (
    select notes.*
    from notes
    inner join consumed on notes.batch_id = consumed.batch_id
    union all
    select notes.*
    from notes
    inner join intervals on notes.source = intervals.source and notes.interval_end = intervals.interval_end
    where notes.batch_id is null
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        noted.note_id,
        noted.kind,
        noted.severity,
        noted.source,
        noted.table_name,
        files.name as file_name,
        noted.message,
        noted.batch_id,
        noted.interval_end,
        noted.as_of
    from noted
    left join files on noted.file_id = files.file_id
)

select * from final

with

visible as (
    select * from {{ ref('stg_visible_batches') }}
),

closes as (
    select * from {{ source('ops', 'closes') }}
),

taken as (
    select
        batches.batch_id, batches.source, batches.interval_end, visible.is_consumed_now, closes.opened_at
    from visible
    inner join {{ source('ops', 'batches') }} as batches on visible.batch_id = batches.batch_id
    inner join closes on visible.close_id = closes.close_id
),

files as (
    select * from {{ source('ops', 'files') }}
),

notes as (
    select * from {{ source('ops', 'load_notes') }}
),

-- A table that was left out has no batch: its note belongs to the interval that the others were loaded for, and of the
-- closes that took some of that to the first one that was opened after it was noted.
intervals as (
    select
        source,
        interval_end,
        max(opened_at) filter (where is_consumed_now) as opened_at,
        max(opened_at) filter (where not is_consumed_now) as opened_before
    from taken
    where interval_end is not null
    group by source, interval_end
    having bool_or(is_consumed_now)
),

noted as (
    select notes.*
    from notes
    inner join taken on notes.batch_id = taken.batch_id and taken.is_consumed_now
    union all
    select notes.*
    from notes
    inner join intervals
        on notes.source = intervals.source
        and notes.interval_end = intervals.interval_end
        and notes.noted_at <= intervals.opened_at
        and (intervals.opened_before is null or notes.noted_at > intervals.opened_before)
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

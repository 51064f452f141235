-- How far each sender's files reach: the latest date any file this close knows was about.
with

files as (
    select * from {{ source('ops', 'files') }}
),

batches as (
    select distinct file_id, batch_id from {{ source('ops', 'batches') }}
),

visible as (
    select * from {{ ref('stg_visible_batches') }}
),

final as (
    select
        files.origin,
        files.origin_account,
        max(files.content_date) as covered_until
    from files
    inner join batches on files.file_id = batches.file_id
    inner join visible on batches.batch_id = visible.batch_id
    where files.status = 'loaded'
    group by files.origin, files.origin_account
)

select * from final

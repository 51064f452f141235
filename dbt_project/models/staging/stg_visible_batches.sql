{{ config(indexes=[{'columns': ['batch_id'], 'unique': true}]) }}

with

close_batches as (
    select * from {{ source('ops', 'close_batches') }}
),

close_chain as (
    select close_id from ops.close_chain({{ close_id() }})
),

closes as (
    select * from {{ source('ops', 'closes') }}
),

final as (
    select
        close_batches.batch_id,
        close_batches.close_id = {{ close_id() }} as is_consumed_now,
        closes.business_date as consumed_date
    from close_batches
    inner join close_chain on close_batches.close_id = close_chain.close_id
    inner join closes on close_chain.close_id = closes.close_id
)

select * from final

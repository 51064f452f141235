with

events as (
    select * from {{ ref('int_events') }}
),

deferred as (
    select * from {{ ref('int_deferred_events') }}
),

later as (
    select * from events where event_date > {{ business_date() }}
    union all
    select * from deferred where event_date > {{ business_date() }}
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        later.*
    from later
)

select * from final

with

actions as (
    select * from {{ ref('int_break_actions') }}
),

final as (
    select
        {{ close_id() }} as close_id,
        {{ business_date() }} as business_date,
        action_id,
        kind,
        outcome,
        refusal,
        item_count,
        item_keys,
        owner,
        reason,
        actor,
        acted_at,
        matched_close_id
    from actions
)

select * from final

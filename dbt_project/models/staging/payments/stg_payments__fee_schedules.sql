-- Every contracted fee as this close knows it: a few hundred rows, so all of them. One that is gone is no contract.
with

visible_rows as (
    select
        fee_schedules.*,
        row_number() over (partition by fee_schedules.fee_schedule_id order by fee_schedules.batch_id desc) as version_rank
    from {{ source('payments', 'fee_schedules') }} as fee_schedules
    inner join {{ ref('stg_visible_batches') }} as visible on fee_schedules.batch_id = visible.batch_id
),

final as (
    select
        -- ids
        fee_schedule_id,

        -- attributes
        processor,
        method_type,
        network,
        market,
        currency,

        -- numerics
        pct_bps,
        fixed_minor,

        -- dates
        valid_from,
        valid_to
    from visible_rows
    where version_rank = 1 and not is_deleted
)

select * from final

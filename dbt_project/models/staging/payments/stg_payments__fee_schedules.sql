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
        -- Rows loaded before contracts told these apart were all of one kind.
        coalesce(fee_type, 'processing') as fee_type,
        coalesce(item_type, 'capture') as item_type,
        coalesce(billing, 'settlement') as billing,
        coalesce(pricing, 'blended') as pricing,
        coalesce(tier_basis, 'line_amount') as tier_basis,
        coalesce(charged_per, 'line') as charged_per,

        -- numerics
        coalesce(tier_from_minor, 0) as tier_from_minor,
        pct_bps,
        fixed_minor,
        minimum_minor,
        maximum_minor,

        -- dates
        valid_from,
        valid_to
    from visible_rows
    where version_rank = 1 and not is_deleted
)

select * from final

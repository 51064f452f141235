with

consumed as (
    {{ consumed_versions('payments', 'payment_attempts', ['attempt_id'], []) }}
),

final as (
    select
        -- ids
        attempt_id,
        payment_id,

        -- numerics
        attempt_no,
        latency_ms,

        -- attributes
        processor,
        outcome,
        decline_code,
        three_ds,

        -- timestamps
        attempted_at,

        has_prior_version,
        version_rank,
        batch_id
    from consumed
)

select * from final

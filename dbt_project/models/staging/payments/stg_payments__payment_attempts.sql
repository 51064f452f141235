with

consumed as (
    {{ ranked_consumed('payments', 'payment_attempts', ['attempt_id']) }}
),

wanted as (
    select distinct attempt_id from consumed
),

prior as (
    {{ known_versions('payments', 'payment_attempts', ['attempt_id'], 'wanted', before_this_close=true) }}
),

final as (
    select
        -- ids
        consumed.attempt_id,
        consumed.payment_id,

        -- numerics
        consumed.attempt_no,
        consumed.latency_ms,

        -- attributes
        consumed.processor,
        consumed.outcome,
        consumed.decline_code,
        consumed.three_ds,

        -- timestamps
        consumed.attempted_at,

        prior.attempt_id is not null as has_prior_version,
        consumed.version_rank,
        consumed.batch_id
    from consumed
    left join prior on consumed.attempt_id = prior.attempt_id
)

select * from final

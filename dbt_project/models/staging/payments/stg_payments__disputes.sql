with

consumed as (
    {{ ranked_consumed('payments', 'disputes', ['dispute_id', 'stage']) }}
),

wanted as (
    select distinct dispute_id, stage from consumed
),

prior as (
    {{ known_versions('payments', 'disputes', ['dispute_id', 'stage'], 'wanted', before_this_close=true) }}
),

final as (
    select
        -- ids
        consumed.dispute_id,
        consumed.payment_id,
        consumed.capture_id,
        consumed.psp_reference,

        -- numerics
        consumed.amount_minor,

        -- attributes
        consumed.stage,
        consumed.processor,
        consumed.currency,
        consumed.reason_code,
        consumed.is_fraud,

        -- timestamps
        consumed.stage_at,

        -- what stood before this close
        prior.amount_minor as prior_amount_minor,
        prior.currency as prior_currency,
        prior.dispute_id is not null as has_prior_version,
        consumed.version_rank,
        consumed.batch_id
    from consumed
    left join prior on consumed.dispute_id = prior.dispute_id and consumed.stage = prior.stage
)

select * from final

with

consumed as (
    {{ ranked_consumed('payments', 'refunds', ['refund_id']) }}
),

wanted as (
    select distinct refund_id from consumed
),

prior as (
    {{ known_versions('payments', 'refunds', ['refund_id'], 'wanted', before_this_close=true) }}
),

final as (
    select
        -- ids
        consumed.refund_id,
        consumed.payment_id,
        consumed.capture_id,
        consumed.psp_reference,

        -- numerics
        consumed.amount_minor,

        -- attributes
        consumed.processor,
        consumed.currency,
        consumed.status,

        -- timestamps
        consumed.refunded_at,

        -- what stood before this close
        prior.amount_minor as prior_amount_minor,
        prior.currency as prior_currency,
        prior.status as prior_status,
        prior.refund_id is not null as has_prior_version,
        consumed.version_rank,
        consumed.batch_id
    from consumed
    left join prior on consumed.refund_id = prior.refund_id
)

select * from final

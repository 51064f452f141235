with

consumed as (
    {{ ranked_consumed('payments', 'captures', ['capture_id']) }}
),

wanted as (
    select distinct capture_id from consumed
),

prior as (
    {{ known_versions('payments', 'captures', ['capture_id'], 'wanted', before_this_close=true) }}
),

final as (
    select
        -- ids
        consumed.capture_id,
        consumed.payment_id,
        consumed.psp_reference,

        -- numerics
        consumed.amount_minor,

        -- attributes
        consumed.processor,
        consumed.currency,

        -- timestamps
        consumed.captured_at,

        -- what stood before this close
        prior.amount_minor as prior_amount_minor,
        prior.currency as prior_currency,
        prior.capture_id is not null as has_prior_version,
        consumed.version_rank,
        consumed.batch_id
    from consumed
    left join prior on consumed.capture_id = prior.capture_id
)

select * from final

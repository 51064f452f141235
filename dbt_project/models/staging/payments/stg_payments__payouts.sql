with

consumed as (
    {{ ranked_consumed('payments', 'payouts', ['payout_id']) }}
),

wanted as (
    select distinct payout_id from consumed
),

prior as (
    {{ known_versions('payments', 'payouts', ['payout_id'], 'wanted', before_this_close=true) }}
),

final as (
    select
        -- ids
        consumed.payout_id,
        consumed.merchant_id,
        consumed.bank_reference,

        -- numerics
        consumed.amount_minor,
        consumed.fee_minor,

        -- attributes
        consumed.bank_account,
        consumed.currency,
        consumed.status,

        -- timestamps
        consumed.sent_at,
        consumed.updated_at,

        -- what stood before this close
        prior.amount_minor as prior_amount_minor,
        prior.status as prior_status,
        prior.payout_id is not null as has_prior_version,
        consumed.version_rank,
        consumed.batch_id
    from consumed
    left join prior on consumed.payout_id = prior.payout_id
)

select * from final

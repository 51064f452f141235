with

consumed as (
    {{ ranked_consumed('payments', 'fx_conversions', ['fx_conversion_id']) }}
),

wanted as (
    select distinct fx_conversion_id from consumed
),

prior as (
    {{ known_versions('payments', 'fx_conversions', ['fx_conversion_id'], 'wanted', before_this_close=true) }}
),

final as (
    select
        -- ids
        consumed.fx_conversion_id,
        consumed.bank_reference,

        -- numerics
        consumed.sell_amount_minor,
        consumed.buy_amount_minor,
        consumed.rate,

        -- attributes
        consumed.sell_bank_account,
        consumed.sell_currency,
        consumed.buy_bank_account,
        consumed.buy_currency,

        -- timestamps
        consumed.executed_at,
        consumed.value_date,

        -- what stood before this close
        prior.sell_amount_minor as prior_sell_amount_minor,
        prior.buy_amount_minor as prior_buy_amount_minor,
        prior.fx_conversion_id is not null as has_prior_version,
        consumed.version_rank,
        consumed.batch_id
    from consumed
    left join prior on consumed.fx_conversion_id = prior.fx_conversion_id
)

select * from final

with

consumed as (
    {{ consumed_versions('payments', 'fx_conversions', ['fx_conversion_id'], ['sell_amount_minor', 'sell_currency', 'buy_amount_minor', 'buy_currency'], 'sell_amount_minor <> 0 or buy_amount_minor <> 0') }}
),

final as (
    select
        -- ids
        fx_conversion_id,
        bank_reference,

        -- numerics
        sell_amount_minor,
        buy_amount_minor,
        rate,

        -- attributes
        sell_bank_account,
        sell_currency,
        buy_bank_account,
        buy_currency,
        is_deleted,

        -- timestamps
        executed_at,
        value_date,

        -- what stood before this close
        prior_sell_amount_minor,
        prior_sell_currency,
        prior_buy_amount_minor,
        prior_buy_currency,
        has_prior_version,
        has_stood,
        version_rank,
        version_no,
        batch_id
    from consumed
)

select * from final

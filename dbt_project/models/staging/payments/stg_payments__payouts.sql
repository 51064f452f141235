with

consumed as (
    {{ consumed_versions('payments', 'payouts', ['payout_id'], ['amount_minor', 'fee_minor', 'currency', 'status']) }}
),

final as (
    select
        -- ids
        payout_id,
        merchant_id,
        bank_reference,

        -- numerics
        amount_minor,
        fee_minor,

        -- attributes
        bank_account,
        currency,
        status,

        -- timestamps
        sent_at,
        updated_at,

        -- what stood before this close
        prior_amount_minor,
        prior_fee_minor,
        prior_currency,
        prior_status,
        has_prior_version,
        version_rank,
        version_no,
        batch_id
    from consumed
)

select * from final

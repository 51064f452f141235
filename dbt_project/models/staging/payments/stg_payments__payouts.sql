with

consumed as (
    {{ consumed_versions('payments', 'payouts', ['payout_id'], ['amount_minor', 'fee_minor', 'currency', 'status'], 'amount_minor <> 0') }}
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
        is_deleted,

        -- timestamps
        sent_at,
        updated_at,

        -- what stood before this close
        prior_amount_minor,
        prior_fee_minor,
        prior_currency,
        prior_status,
        has_prior_version,
        has_stood,
        version_rank,
        version_no,
        batch_id
    from consumed
)

select * from final

with

consumed as (
    {{ consumed_versions('payments', 'disputes', ['dispute_id', 'stage'], ['amount_minor', 'currency'], 'amount_minor <> 0') }}
),

final as (
    select
        -- ids
        dispute_id,
        payment_id,
        capture_id,
        psp_reference,

        -- numerics
        amount_minor,

        -- attributes
        stage,
        processor,
        currency,
        reason_code,
        is_fraud,
        is_deleted,

        -- timestamps
        stage_at,

        -- what stood before this close
        prior_amount_minor,
        prior_currency,
        has_prior_version,
        has_stood,
        version_rank,
        version_no,
        batch_id
    from consumed
)

select * from final

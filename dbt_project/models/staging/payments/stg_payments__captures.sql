with

consumed as (
    {{ consumed_versions('payments', 'captures', ['capture_id'], ['amount_minor', 'currency'], 'amount_minor <> 0') }}
),

final as (
    select
        -- ids
        capture_id,
        payment_id,
        psp_reference,

        -- numerics
        amount_minor,

        -- attributes
        processor,
        currency,
        is_deleted,

        -- timestamps
        captured_at,

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

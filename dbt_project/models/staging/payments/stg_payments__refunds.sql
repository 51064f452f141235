with

consumed as (
    {{ consumed_versions('payments', 'refunds', ['refund_id'], ['amount_minor', 'currency', 'status'], "amount_minor <> 0 and status = 'succeeded'") }}
),

final as (
    select
        -- ids
        refund_id,
        payment_id,
        capture_id,
        psp_reference,

        -- numerics
        amount_minor,

        -- attributes
        processor,
        currency,
        status,
        is_deleted,

        -- timestamps
        refunded_at,

        -- what stood before this close
        prior_amount_minor,
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

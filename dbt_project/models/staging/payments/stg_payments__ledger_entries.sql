with

consumed as (
    {{ consumed_versions('payments', 'ledger_entries', ['ledger_entry_id'], ['amount_minor', 'currency'], 'amount_minor <> 0') }}
),

final as (
    select
        -- ids
        ledger_entry_id,

        -- numerics
        amount_minor,

        -- attributes
        bank_account,
        currency,
        source_type,
        source_id,
        is_deleted,

        -- timestamps
        booked_at,

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

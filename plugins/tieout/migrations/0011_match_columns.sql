-- Columns that a match got; where nothing is deployed yet, dbt makes them.
alter table if exists reconciliation.reconciliation_items
    add column if not exists difference_minor bigint,
    add column if not exists difference_fee_minor bigint,
    add column if not exists difference_fx_minor bigint,
    add column if not exists difference_rounding_minor bigint,
    add column if not exists difference_remainder_minor bigint,
    add column if not exists left_as_of timestamptz,
    add column if not exists right_as_of timestamptz,
    add column if not exists fx_variance_minor bigint,
    add column if not exists is_rate_missing boolean,
    add column if not exists pool_key text;

-- What a fee is made of and which contract it was compared with; where nothing is deployed yet, dbt makes the columns.
alter table if exists reconciliation.reconciliation_items
    add column if not exists interchange_minor bigint,
    add column if not exists scheme_fee_minor bigint,
    add column if not exists fee_schedule_id text;

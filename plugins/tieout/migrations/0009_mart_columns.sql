-- Columns that published marts got: dbt leaves a table that is there as it is. Where nothing is deployed yet, dbt makes them.
alter table if exists reconciliation.reconciliation_items add column if not exists correction_reason text;
alter table if exists reconciliation.break_register add column if not exists correction_reason text;
alter table if exists monitoring.load_audit
    add column if not exists superseded_files text,
    add column if not exists gone_count bigint not null default 0;

-- Columns that the register and its changes got; where nothing is deployed yet, dbt makes them.
alter table if exists reconciliation.break_register add column if not exists last_comment text;
alter table if exists reconciliation.break_changes
    add column if not exists closed_by_rule_id text,
    add column if not exists closed_by_action_id bigint;

-- depends_on: {{ ref('stg_visible_batches') }}
{%- for node in raw_tables() %}
-- depends_on: {{ source(node.source_name, node.name) }}
{%- endfor %}
{%- set staged = {
    'captures': ref('stg_payments__captures'),
    'refunds': ref('stg_payments__refunds'),
    'disputes': ref('stg_payments__disputes'),
    'payouts': ref('stg_payments__payouts'),
    'fx_conversions': ref('stg_payments__fx_conversions'),
    'ledger_entries': ref('stg_payments__ledger_entries'),
    'payment_attempts': ref('stg_payments__payment_attempts'),
    'settlement_lines': ref('stg_files__settlement_lines'),
    'bank_statements': ref('stg_files__bank_statements'),
    'bank_entries': ref('stg_files__bank_entries'),
    'invoice_lines': ref('stg_files__invoice_lines'),
} %}
{#- Tables of further sources are proven into raw; what becomes of them there is theirs. #}
{%- set reconciled_sources = ('payments', 'files') %}
{#- Staged statements reach back to the last one before this close. #}
{%- set staged_now = {'bank_statements': 'is_consumed_now'} %}
{%- set earlier_columns = {
    'close_id': 'bigint', 'reconciliation': 'text', 'side': 'text', 'currency': 'text', 'status': 'text',
    'exclusion_reason': 'text', 'amount_minor': 'bigint', 'item_key': 'text',
} %}

with

close_batches as (
    select * from {{ source('ops', 'close_batches') }} where close_id = {{ close_id() }}
),

batches as (
    select * from {{ source('ops', 'batches') }}
),

batch_totals as (
    select * from {{ source('ops', 'batch_totals') }}
),

new_items as not materialized (
    select * from {{ ref('int_items') }} where not is_carried
),

items as not materialized (
    select * from {{ ref('reconciliation_items') }} where close_id = {{ close_id() }}
),

close_actions as (
    select break_actions.action_id, break_actions.kind
    from {{ source('ops', 'close_actions') }} as close_actions
    inner join {{ source('ops', 'break_actions') }} as break_actions on close_actions.action_id = break_actions.action_id
    where close_actions.close_id = {{ close_id() }}
),

actions as (
    select * from {{ ref('break_actions') }} where close_id = {{ close_id() }}
),

earlier_items as not materialized (
    select * from {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
),

consumed as (
    select batches.*
    from batches
    inner join close_batches on batches.batch_id = close_batches.batch_id
),

-- 1. What raw holds is what the source had.
source_totals as (
    select source, table_name, batch_id, 'rows' as measure, 'XXX' as currency, row_count, key_hash as total
    from consumed
    where row_count > 0
    union all
    select consumed.source, consumed.table_name, consumed.batch_id, batch_totals.measure, batch_totals.currency,
        batch_totals.row_count, batch_totals.sum_minor
    from consumed
    inner join batch_totals on consumed.batch_id = batch_totals.batch_id
    where batch_totals.row_count > 0
),

raw_totals as (
    {{ raw_totals() }}
),

compared_batches as (
    select
        coalesce(source_totals.table_name, raw_totals.table_name) as table_name,
        coalesce(source_totals.measure, raw_totals.measure) as measure,
        coalesce(source_totals.currency, raw_totals.currency) as currency,
        coalesce(source_totals.batch_id, raw_totals.batch_id) as batch_id,
        source_totals.row_count as expected_count,
        raw_totals.row_count as actual_count,
        source_totals.total as expected_total,
        raw_totals.total as actual_total
    from source_totals
    full outer join raw_totals
        on source_totals.batch_id = raw_totals.batch_id
        and source_totals.measure = raw_totals.measure
        and source_totals.currency = raw_totals.currency
),

source_to_raw as (
    select
        {{ proof_line(
            'source_to_raw', "table_name || '.' || measure", 'currency',
            'sum(expected_count)', 'sum(actual_count)', 'sum(expected_total)', 'sum(actual_total)',
            "'batches ' || string_agg(batch_id::text, ', ' order by batch_id) filter (
                where expected_count is distinct from actual_count or expected_total is distinct from actual_total)"
        ) }}
    from compared_batches
    group by table_name, measure, currency
    union all
    -- Batch by batch, so that two losses cannot make up for each other.
    select
        {{ proof_line(
            'source_to_raw', "table_name || '.' || measure || ' by batch'", 'currency',
            'count(*)', 'count(*) filter (where expected_count = actual_count and expected_total = actual_total)', '0', '0'
        ) }}
    from compared_batches
    group by table_name, measure, currency
),

-- 2. Nothing is lost or altered between raw and staging: every row, every amount that has a control total.
staged as (
    {% for node in raw_tables() if node.name in staged and node.source_name in reconciled_sources -%}
    select
        '{{ node.name }}' as table_name, 'rows' as measure, 'XXX' as currency,
        count(*) as row_count, 0::numeric as sum_minor
    from {{ staged[node.name] }}
    where {{ staged_now.get(node.name, 'true') }}
    union all
    {% for amount, currency in node.config.meta.get('amounts', {}).items() -%}
    select '{{ node.name }}', '{{ amount }}', coalesce({{ currency }}, 'XXX'), count(*), sum({{ amount }})
    from {{ staged[node.name] }}
    where {{ amount }} is not null and {{ staged_now.get(node.name, 'true') }}
    group by coalesce({{ currency }}, 'XXX')
    union all
    {% endfor %}
    {%- endfor -%}
    select null, null, null, 0, 0 where false
),

source_to_be_staged as (
    select
        table_name, measure, currency, sum(row_count) as row_count,
        sum(case when measure = 'rows' then 0 else total end) as sum_minor
    from source_totals
    where source in {{ reconciled_sources }}
        and table_name in ('{{ staged.keys() | join("', '") }}')
    group by table_name, measure, currency
),

source_to_staging as (
    select
        {{ proof_line(
            'source_to_staging',
            "coalesce(wanted.table_name, staged.table_name) || '.' || coalesce(wanted.measure, staged.measure)",
            'coalesce(wanted.currency, staged.currency)',
            'wanted.row_count', 'staged.row_count', 'wanted.sum_minor', 'staged.sum_minor'
        ) }}
    from source_to_be_staged as wanted
    full outer join staged
        on wanted.table_name = staged.table_name
        and wanted.measure = staged.measure
        and wanted.currency = staged.currency
),

-- 3. Every amount the source counted is an item, with its sign and its currency.
item_totals as (
    select
        source_table as table_name,
        control_measure as measure,
        control_currency as currency,
        sum(control_count) as row_count,
        sum(control_minor) as sum_minor
    from new_items
    where control_measure is not null
    group by source_table, control_measure, control_currency
),

wanted_totals as (
    select table_name, measure, currency, sum(row_count) as row_count, sum(total) as sum_minor
    from source_totals
    where (source, table_name, measure) in (
        {%- for node in raw_tables() %}
        {%- for measure in node.config.meta.get('reconciled', []) %}
        ('{{ node.source_name }}', '{{ node.name }}', '{{ measure }}'),
        {%- endfor %}
        {%- endfor %}
        (null, null, null)
    )
    group by table_name, measure, currency
),

source_to_items as (
    select
        {{ proof_line(
            'source_to_items',
            "coalesce(wanted_totals.table_name, item_totals.table_name) || '.' || coalesce(wanted_totals.measure, item_totals.measure)",
            'coalesce(wanted_totals.currency, item_totals.currency)',
            'wanted_totals.row_count', 'item_totals.row_count', 'wanted_totals.sum_minor', 'item_totals.sum_minor'
        ) }}
    from wanted_totals
    full outer join item_totals
        on wanted_totals.table_name = item_totals.table_name
        and wanted_totals.measure = item_totals.measure
        and wanted_totals.currency = item_totals.currency
),

-- An item that asks for no partner never meets a clearing account: here it has to be what was counted.
excluded_amounts as (
    select source_table, control_currency as currency, control_minor as counted_minor, 0::bigint as held_minor
    from new_items
    where exclusion_reason is not null and control_measure is not null
    union all
    select source_table, currency, 0, amount_minor
    from new_items
    where exclusion_reason is not null and control_measure is not null
),

excluded_as_counted as (
    select
        {{ proof_line(
            'excluded_as_counted', 'source_table', 'currency', '0', '0', 'sum(counted_minor)', 'sum(held_minor)'
        ) }}
    from excluded_amounts
    group by source_table, currency
),

-- What clears no account is counted here: both sides say what contracts price and what invoices add, no more and no less.
compared_amounts as (
    select 'contract_invoice.left' as subject, currency, -fee_minor as counted_minor, 0::bigint as held_minor
    from {{ ref('int_invoiced_fees') }}
    union all
    select 'contract_invoice.right', currency, prior_amount_minor - amount_minor, 0
    from {{ ref('stg_files__invoice_lines') }}
    where version_reason is null
    union all
    select reconciliation || '.' || side, currency, 0, amount_minor
    from new_items
    where reconciliation = 'contract_invoice' and exclusion_reason is null
),

compared_as_counted as (
    select
        {{ proof_line('compared_as_counted', 'subject', 'currency', '0', '0', 'sum(counted_minor)', 'sum(held_minor)') }}
    from compared_amounts
    group by subject, currency
),

-- 4. Newly consumed + carried + taken apart = matched + open + excluded, in count and amount.
incoming as (
    select reconciliation, side, currency, item_key, amount_minor from new_items
    union all
    select reconciliation, side, currency, item_key, amount_minor
    from earlier_items
    where close_id = {{ parent_close_id() }} and (status = 'open' or exclusion_reason = 'FUTURE_DATED')
    union all
    select earlier_items.reconciliation, earlier_items.side, earlier_items.currency, earlier_items.item_key, earlier_items.amount_minor
    from actions
    cross join unnest(actions.item_keys) as taken_apart (item_key)
    inner join earlier_items
        on actions.matched_close_id = earlier_items.close_id and taken_apart.item_key = earlier_items.item_key
    where earlier_items.status <> 'open'
),

incoming_totals as (
    select reconciliation, side, currency, count(*) as item_count, sum(amount_minor) as amount_minor
    from incoming
    group by reconciliation, side, currency
),

outcome_totals as (
    select reconciliation, side, currency, count(*) as item_count, sum(amount_minor) as amount_minor
    from items
    where status in ('matched', 'open', 'excluded')
        and (status = 'open') = (break_code is not null)
        and (status = 'excluded') = (exclusion_reason is not null)
    group by reconciliation, side, currency
),

explained as (
    select
        {{ proof_line(
            'explained',
            "coalesce(incoming_totals.reconciliation, outcome_totals.reconciliation) || '.' || coalesce(incoming_totals.side, outcome_totals.side)",
            'coalesce(incoming_totals.currency, outcome_totals.currency)',
            'incoming_totals.item_count', 'outcome_totals.item_count', 'incoming_totals.amount_minor', 'outcome_totals.amount_minor'
        ) }}
    from incoming_totals
    full outer join outcome_totals
        on incoming_totals.reconciliation = outcome_totals.reconciliation
        and incoming_totals.side = outcome_totals.side
        and incoming_totals.currency = outcome_totals.currency
),

-- 5. What is called matched comes to zero, group by group.
matched_groups as (
    select
        reconciliation,
        group_id,
        currency,
        sum(clearing_minor) as clearing_minor
    from items
    where status = 'matched'
    group by reconciliation, group_id, currency
),

matched_to_zero as (
    select
        {{ proof_line(
            'matched_to_zero', 'reconciliation', 'currency',
            '0', 'count(*) filter (where clearing_minor <> 0)', '0', 'sum(abs(clearing_minor))',
            "string_agg(group_id, ', ' order by group_id) filter (where clearing_minor <> 0)"
        ) }}
    from matched_groups
    group by reconciliation, currency
),

-- Every action the close took is applied or refused, and what was applied is what its items ended as.
decided as (
    select
        {{ proof_line(
            'actions', 'coalesce(close_actions.kind, actions.kind)', "'XXX'",
            'count(close_actions.action_id)', "count(*) filter (where actions.outcome in ('applied', 'refused'))", '0', '0',
            "'actions ' || string_agg(coalesce(close_actions.action_id, actions.action_id)::text, ', ') filter (
                where close_actions.action_id is null or actions.outcome is null)"
        ) }}
    from close_actions
    full outer join actions
        on close_actions.action_id = actions.action_id and close_actions.kind = actions.kind
    group by coalesce(close_actions.kind, actions.kind)
),

group_sizes as (
    select group_id, count(*) as item_count from items where group_id is not null group by group_id
),

-- What was taken apart may meet again where others join it: never one side the other, and never by itself.
moved as (
    select
        actions.action_id,
        actions.kind,
        wanted.item_key,
        case actions.kind
            when 'unlink' then items.item_key is not null
                and (
                    items.group_id is null
                    or count(*) over same_group = 1
                    or min(items.side) over same_group = max(items.side) over same_group
                    and count(*) over same_group < group_sizes.item_count
                )
            else items.group_id = 'manual:' || actions.action_id
                and case actions.kind
                    when 'link' then items.status in ('matched', 'open')
                    when 'force' then items.status = 'matched'
                    when 'exclude' then items.exclusion_reason = 'MANUAL'
                end
        end as is_done
    from actions
    cross join unnest(actions.item_keys) as wanted (item_key)
    left join items on wanted.item_key = items.item_key
    left join group_sizes on items.group_id = group_sizes.group_id
    where actions.outcome = 'applied' and actions.kind in ('link', 'unlink', 'force', 'exclude')
    window same_group as (partition by actions.action_id, items.group_id)
),

-- One line a kind; an action without effect has a line of its own, so that people sign for this one and no other.
acted_upon as (
    select
        {{ proof_line(
            'actions_take_effect', "kind || coalesce(' ' || failed_id, '')", "'XXX'", 'count(*)', 'count(*) filter (where is_done)', '0', '0',
            "string_agg('action ' || action_id || ': ' || item_key, ', ' order by action_id, item_key) filter (where is_done is not true)"
        ) }}
    from (
        select *, case when bool_or(is_done is not true) over (partition by action_id) then action_id end as failed_id
        from moved
    ) as judged
    group by kind, failed_id
),

final as (
    select * from decided
    union all
    select * from acted_upon
    union all
    select * from source_to_raw
    union all
    select * from source_to_staging
    union all
    select * from source_to_items
    union all
    select * from excluded_as_counted
    union all
    select * from compared_as_counted
    union all
    select * from explained
    union all
    select * from matched_to_zero
)

select * from final

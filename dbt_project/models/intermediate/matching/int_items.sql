-- Everything this close has to explain: what it consumes, what its parent left open, and what people took apart.
{{ config(indexes=[{'columns': ['item_key'], 'unique': true}]) }}
{%- set columns = item_columns() %}
{%- set carried_columns = carried_item_columns() %}
{%- set earlier_columns = dict(carried_columns, close_id='bigint', status='text', break_code='text', first_seen_business_date='date', last_changed_business_date='date') %}

with

bank_accounts as (
    select * from {{ ref('bank_accounts') }}
),

settlement_accounts as (
    select * from {{ ref('settlement_accounts') }}
),

earlier_items as not materialized (
    select * from {{ earlier_rows('closes', 'reconciliation_items', earlier_columns) }} as earlier
),

actions as (
    select * from {{ ref('int_break_actions') }}
),

compared_accounts as (
    select bank_account from bank_accounts where is_in_system_book
),

decided as (
    select * from {{ ref('int_decided_items') }}
),

consumed as (
    {% for model in var('item_models') -%}
    select {{ columns.keys() | join(', ') }} from {{ ref(model) }}
    {{ 'union all' if not loop.last }}
    {% endfor -%}
),

carried as (
    select
        {{ carried_columns.keys() | join(', ') }},
        coalesce(exclusion_reason = 'FUTURE_DATED', false) as was_future_dated,
        break_code,
        first_seen_business_date,
        last_changed_business_date
    from earlier_items
    where close_id = {{ parent_close_id() }}
        and (status = 'open' or exclusion_reason = 'FUTURE_DATED')
    union all
    -- Items of a match that is taken apart are open again from today.
    select {{ carried_columns.keys() | join(', ') }}, false, null, null, null
    from earlier_items
    inner join (
        select matched_close_id, unnest(item_keys) as wanted_key from actions where matched_close_id is not null
    ) as taken_apart
        on earlier_items.close_id = taken_apart.matched_close_id and earlier_items.item_key = taken_apart.wanted_key
    where earlier_items.status <> 'open'
),

entered as (
    select
        {% for name in columns %}{{ name }},
        {% endfor -%}
        false as is_carried,
        null::text as carried_break_code,
        null::date as first_seen_business_date,
        null::date as last_changed_business_date,
        exclusion_reason is null and value_date > {{ business_date() }} as is_future_dated,
        exclusion_reason is not null or value_date <= {{ business_date() }} as is_entering
    from consumed
    union all
    select
        {% for name in columns -%}
        {%- if name == 'control_count' %}0
        {%- elif name == 'control_minor' %}0
        {%- elif name.startswith('control_') %}null
        {%- elif name == 'exclusion_reason' %}case when compared_accounts.bank_account is null and reconciliation = 'ledger_bank' then 'NOT_COMPARED' end
        {%- elif name == 'bank_account' %}carried.bank_account
        {%- else %}{{ name }}
        {%- endif %},
        {% endfor -%}
        true,
        break_code,
        first_seen_business_date,
        last_changed_business_date,
        value_date > {{ business_date() }},
        was_future_dated and value_date <= {{ business_date() }}
    from carried
    -- What is not compared any more is not open any more: its memo account is booked out.
    left join compared_accounts on carried.bank_account = compared_accounts.bank_account
),

final as (
    select
        entered.*,
        coalesce(bank_accounts.calendar, settlement_accounts.calendar, entered.currency) as calendar,
        decided.manual_rule_id,
        decided.manual_group_id,
        coalesce(decided.is_unlinked, false) as is_unlinked,
        coalesce(decided.is_strong_key_barred, false) as is_strong_key_barred,
        coalesce(decided.is_weak_key_barred, false) as is_weak_key_barred
    from entered
    left join decided on entered.item_key = decided.item_key
    left join bank_accounts on entered.bank_account = bank_accounts.bank_account
    left join settlement_accounts
        on entered.processor = settlement_accounts.processor
        and entered.processor_account = settlement_accounts.processor_account
        and entered.currency = settlement_accounts.currency
        and {{ holds_on('settlement_accounts', 'entered.value_date') }}
)

select * from final

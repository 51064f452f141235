{# The one shape of an item, whichever side and reconciliation it belongs to. #}
{% macro item_columns() %}
    {{ return({
        'item_key': 'text',
        'reconciliation': 'text',
        'side': 'text',
        'item_type': 'text',
        'source_reference': 'text',
        'source_name': 'text',
        'source_table': 'text',
        'control_measure': 'text',
        'control_count': 'bigint',
        'control_minor': 'bigint',
        'control_currency': 'text',
        'amount_minor': 'bigint',
        'currency': 'text',
        'clearing_account': 'text',
        'processor': 'text',
        'processor_account': 'text',
        'bank_account': 'text',
        'merchant_id': 'text',
        'market': 'text',
        'method_type': 'text',
        'network': 'text',
        'strong_key': 'text',
        'weak_key': 'text',
        'pool_key': 'text',
        'batch_key': 'text',
        'occurred_at': 'timestamptz',
        'value_date': 'date',
        'expected_date': 'date',
        'due_date': 'date',
        'fee_minor': 'bigint',
        'fee_currency': 'text',
        'interchange_minor': 'bigint',
        'scheme_fee_minor': 'bigint',
        'fx_variance_minor': 'bigint',
        'is_rate_missing': 'boolean',
        'intrinsic_code': 'text',
        'correction_reason': 'text',
        'exclusion_reason': 'text',
        'is_reversal': 'boolean',
        'batch_id': 'bigint',
        'file_id': 'bigint',
        'line_no': 'integer'
    }) }}
{% endmacro %}

{# The same without the control totals: those count once, in the close that consumed the row. #}
{% macro carried_item_columns() %}
    {%- set carried = {} -%}
    {%- for name, type in item_columns().items() if not name.startswith('control_') -%}
        {%- do carried.update({name: type}) -%}
    {%- endfor -%}
    {{ return(carried) }}
{% endmacro %}

{#
  A select list in the shape of an item: `given` says what a column is, in SQL; all others are null, no control total,
  no reversal. A name that no item has is refused.
#}
{% macro as_item(given) %}
    {%- set columns = item_columns() -%}
    {%- set otherwise = {'control_count': '0', 'control_minor': '0', 'is_reversal': 'false', 'is_rate_missing': 'false'} -%}
    {%- for name in given if name not in columns -%}
        {{ exceptions.raise_compiler_error("an item has no column " ~ name ~ ": see item_columns()") }}
    {%- endfor -%}
    {%- for name, type in columns.items() %}
        ({{ given.get(name, otherwise.get(name, 'null')) }})::{{ type }} as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{% endmacro %}

{# What an invoice and the contracts it is held against have in common: account, fee type, currency and month of service. #}
{% macro invoice_key(relation) -%}
    {{ relation }}.processor || '|' || {{ relation }}.processor_account || '|' || {{ relation }}.fee_type || '|' || {{ relation }}.currency
    || '|' || to_char({{ relation }}.service_month, 'YYYY-MM')
{%- endmacro %}

{# The settlement batch a line of `relation` belongs to; lines outside any batch are one together. #}
{% macro batch_key(relation) -%}
    {{ relation }}.processor || '|' || {{ relation }}.processor_account || '|' || coalesce({{ relation }}.batch_reference, 'none') || '|' || {{ relation }}.net_currency
{%- endmacro %}

{# Whether a batch_key is that of the lines outside any batch. #}
{% macro waits_for_batch(key) %}({{ key }} ~ '\|none\|[^|]*$'){% endmacro %}

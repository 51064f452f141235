{# Every schema a model lands in is configured; an unplaced model shows itself by this name. #}
{% macro generate_schema_name(custom_schema_name, node) %}
    {{- custom_schema_name | trim if custom_schema_name else 'z_schema_not_configured' -}}
{% endmacro %}

{# Replace this close's partition, also when the re-run yields no row at all. #}
{% macro get_incremental_close_partition_sql(arg_dict) %}
    {%- set columns = arg_dict['dest_columns'] | map(attribute='quoted') | join(', ') -%}
    delete from {{ arg_dict['target_relation'] }} where close_id = {{ close_id() }};
    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }};
    drop view {{ arg_dict['temp_relation'] }}
{% endmacro %}

{#
  What a close selects goes into its mart as it comes: dbt would write it into a table of its own first, and read that.
  On a machine with many cores that table could be filled in parallel, which an insert is not.
#}
{% macro postgres__create_table_as(temporary, relation, sql) -%}
    {%- if temporary and model.resource_type == 'model' -%}
    {{ get_assert_columns_equivalent(sql) if config.get('contract').enforced }}
    create temporary view {{ relation }} as
    {{ sql }};
    {%- else -%}
    {{ dbt.postgres__create_table_as(temporary, relation, sql) }}
    {%- endif -%}
{%- endmacro %}

{# Tests of a mart look at the partition being built, so that a day's tests cost the same every day. #}
{% macro get_where_subquery(relation) %}
    {%- set where = config.get('where', '') -%}
    {%- if model.resource_type == 'test' and relation.schema in ['reconciliation', 'accounting', 'kpi', 'monitoring'] -%}
        {%- set where = 'close_id = ' ~ close_id() ~ (' and (' ~ where ~ ')' if where else '') -%}
    {%- endif -%}
    {%- if where -%}
        (select * from {{ relation }} where {{ where }}) as dbt_subquery
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{% endmacro %}

{#
  Rows of a mart's earlier partitions; the caller says which. Written as a source because a ref would be a cycle;
  before the very first deployment the table does not exist and `columns` (name -> type) gives the shape of no rows.
#}
{% macro earlier_rows(source_name, mart, columns) %}
    {%- set relation = source(source_name, mart) -%}
    {%- if execute and adapter.get_relation(relation.database, relation.schema, relation.identifier) is none -%}
    (select {% for name, type in columns.items() %}null::{{ type }} as {{ name }}{{ ', ' if not loop.last }}{% endfor %} where false)
    {%- else -%}
    {{ relation }}
    {%- endif %}
{% endmacro %}

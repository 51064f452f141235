{# The declared source tables whose rows land in raw, of every source that the loader reads. #}
{% macro raw_tables() %}
    {%- set tables = [] -%}
    {%- if execute -%}
        {%- for node in graph.sources.values() | sort(attribute='unique_id') if node.config.meta.get('kind') in ('snapshot', 'file') -%}
            {%- do tables.append(node) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(tables) }}
{% endmacro %}

{#
  The control totals of this close's batches as raw has them now, spelled exactly as they were taken at the source:
  rows and key hash a batch, and count and sum a batch, amount column and currency.
#}
{% macro raw_totals() %}
    {%- for node in raw_tables() %}
    {%- set meta = node.config.meta %}
    {%- set key = '"' ~ meta.key | reject('equalto', 'file_id') | join('", "') ~ '"' %}
    select
        '{{ node.source_name }}' as source, '{{ node.name }}' as table_name, raw_rows.batch_id,
        'rows' as measure, 'XXX' as currency, count(*) as row_count,
        sum(('x' || left(md5(concat_ws('|', {{ key }})), 15))::bit(60)::bigint) as total
    from {{ source(node.source_name, node.name) }} as raw_rows
    inner join consumed on raw_rows.batch_id = consumed.batch_id
    group by raw_rows.batch_id
    {%- for amount, currency in meta.get('amounts', {}).items() %}
    union all
    select
        '{{ node.source_name }}', '{{ node.name }}', raw_rows.batch_id,
        '{{ amount }}', coalesce("{{ currency }}", 'XXX'), count("{{ amount }}"), coalesce(sum("{{ amount }}"), 0)
    from {{ source(node.source_name, node.name) }} as raw_rows
    inner join consumed on raw_rows.batch_id = consumed.batch_id
    where "{{ amount }}" is not null
    group by raw_rows.batch_id, coalesce("{{ currency }}", 'XXX')
    {%- endfor %}
    {{ 'union all' if not loop.last }}
    {%- else %}
    select null::text as source, null::text as table_name, null::bigint as batch_id, null::text as measure,
        null::text as currency, 0::bigint as row_count, 0::numeric as total
    where false
    {%- endfor %}
{% endmacro %}

{# How many of a consumed batch's rows say that their key is gone: one row a batch that has some. #}
{% macro raw_tombstones() %}
    {%- for node in raw_tables() %}
    select raw_rows.batch_id, count(*) as gone_count
    from {{ source(node.source_name, node.name) }} as raw_rows
    inner join close_batches on raw_rows.batch_id = close_batches.batch_id
    where raw_rows.is_deleted
    group by raw_rows.batch_id
    {{ 'union all' if not loop.last }}
    {%- else %}
    select null::bigint as batch_id, 0::bigint as gone_count
    where false
    {%- endfor %}
{% endmacro %}

{# One line of a proof: two figures from different places that have to agree. #}
{% macro proof_line(check_name, subject, currency, expected_count, actual_count, expected_minor, actual_minor, detail="null::text") %}
    {{ close_id() }} as close_id,
    {{ business_date() }} as business_date,
    '{{ check_name }}' as check_name,
    {{ subject }} as subject,
    {{ currency }} as currency,
    coalesce({{ expected_count }}, 0)::bigint as expected_count,
    coalesce({{ actual_count }}, 0)::bigint as actual_count,
    coalesce({{ expected_minor }}, 0)::numeric as expected_minor,
    coalesce({{ actual_minor }}, 0)::numeric as actual_minor,
    coalesce({{ expected_count }}, 0) = coalesce({{ actual_count }}, 0)
        and coalesce({{ expected_minor }}, 0) = coalesce({{ actual_minor }}, 0) as is_proven,
    {{ detail }} as detail
{% endmacro %}

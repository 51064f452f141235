{# The close being built. Read in SQL only: in config() or YAML they would freeze at parse. #}

{% macro close_id() %}{{ var('close_id') | int }}::bigint{% endmacro %}

{% macro parent_close_id() %}{{ var('parent_close_id') | int }}::bigint{% endmacro %}

{% macro business_date() %}date '{{ modules.datetime.date.fromisoformat(var('business_date') | string) }}'{% endmacro %}

{# Rows of one raw table that this close consumes: the batches fixed when it opened, and no others. #}
{% macro consumed_rows(source_name, table_name) %}
    select raw_rows.*
    from {{ source(source_name, table_name) }} as raw_rows
    inner join {{ source('ops', 'close_batches') }} as close_batches
        on raw_rows.batch_id = close_batches.batch_id
        and close_batches.close_id = {{ close_id() }}
{% endmacro %}

{# The rows this close consumes, with version_rank 1 on the latest version of each key. #}
{% macro ranked_consumed(source_name, table_name, key) %}
    select
        consumed.*,
        row_number() over (partition by {{ key | join(', ') }} order by batch_id desc) as version_rank
    from ({{ consumed_rows(source_name, table_name) }}) as consumed
{% endmacro %}

{#
  The latest version of each wanted key that this close knows, or with `before_this_close` the one that stood
  before it. An index look-up into the batches of the close and its ancestors, so its cost follows the keys asked
  for, not the history. `keys` is a relation or CTE that has the key columns.
#}
{% macro known_versions(source_name, table_name, key, keys, before_this_close=false) %}
    select *
    from (
        select
            raw_rows.*,
            row_number() over (
                partition by {% for column in key %}raw_rows.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
                order by raw_rows.batch_id desc
            ) as version_rank
        from {{ keys }} as wanted
        inner join {{ source(source_name, table_name) }} as raw_rows
            on {% for column in key %}raw_rows.{{ column }} = wanted.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}

        inner join {{ ref('stg_visible_batches') }} as visible
            on raw_rows.batch_id = visible.batch_id
        {% if before_this_close -%}
        where not visible.is_consumed_now
        {%- endif %}
    ) as ranked
    where version_rank = 1
{% endmacro %}

{# The business date of an instant: its local date in the book's zone. #}
{% macro business_date_of(instant) %}(({{ instant }}) at time zone (select zone from {{ ref('books') }} where book = 'global'))::date{% endmacro %}

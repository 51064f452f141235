{# The close being built. Read in SQL only: in config() or YAML they would freeze at parse. #}

{% macro close_id() %}{{ var('close_id') | int }}::bigint{% endmacro %}

{% macro parent_close_id() %}{{ var('parent_close_id') | int }}::bigint{% endmacro %}

{% macro business_date() %}date '{{ modules.datetime.date.fromisoformat(var('business_date') | string) }}'{% endmacro %}

{#
  Run before each model, in its transaction: the builder must still hold the close, which keeps others from taking it
  over until the model is done. A builder that was overtaken, or wakes after the publication, changes nothing.
#}
{% macro hold_close() %}
    {%- if execute and var('close_id') | int != 0 -%}
    select ops.hold_close({{ close_id() }}, '{{ var('builder') }}')
    {%- endif -%}
{% endmacro %}

{# Rows of one raw table that this close consumes: the batches fixed when it opened, and no others. #}
{% macro consumed_rows(source_name, table_name) %}
    select raw_rows.*
    from {{ source(source_name, table_name) }} as raw_rows
    inner join {{ source('ops', 'close_batches') }} as close_batches
        on raw_rows.batch_id = close_batches.batch_id
        and close_batches.close_id = {{ close_id() }}
{% endmacro %}

{#
  Every version of the consumed keys that this close knows, whichever close brought it. An index look-up from the keys
  into the batches of the close and its ancestors, so its cost follows the day and not the history.
#}
{% macro known_rows(source_name, table_name, key, wanted) %}
    select
        raw_rows.*,
        visible.is_consumed_now,
        row_number() over (
            partition by {% for column in key %}raw_rows.{{ column }}, {% endfor %}visible.is_consumed_now
            order by raw_rows.batch_id desc
        ) as version_rank,
        row_number() over (
            partition by {% for column in key %}raw_rows.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
            order by visible.is_consumed_now, raw_rows.batch_id
        ) as version_no
    from {{ wanted }} as wanted
    inner join {{ source(source_name, table_name) }} as raw_rows
        on {% for column in key %}raw_rows.{{ column }} = wanted.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}

    inner join {{ ref('stg_visible_batches') }} as visible on raw_rows.batch_id = visible.batch_id
{% endmacro %}

{#
  The rows this close consumes, version_rank 1 on the latest of each key, each with what stood before this close as
  prior_<column>. Windows instead of a join to the earlier version: nobody can estimate how many rows have one.
#}
{% macro consumed_versions(source_name, table_name, key, prior_columns) %}
    select *
    from (
        select
            known.*,
            bool_or(not is_consumed_now) over same_key as has_prior_version
            {%- for column in prior_columns %},
            max({{ column }}) filter (where not is_consumed_now and version_rank = 1) over same_key as prior_{{ column }}
            {%- endfor %}
        from (
            {{ known_rows(source_name, table_name, key, '(select distinct ' ~ key | join(', ') ~ ' from (' ~ consumed_rows(source_name, table_name) ~ ') as consumed)') }}
        ) as known
        window same_key as (partition by {{ key | join(', ') }})
    ) as versions
    where is_consumed_now
{% endmacro %}

{# The latest version of each wanted key that this close knows. `wanted` is a relation or CTE that has the key. #}
{% macro latest_versions(source_name, table_name, key, wanted) %}
    select *
    from (
        select
            known.*,
            row_number() over (partition by {{ key | join(', ') }} order by batch_id desc) as recency_rank
        from ({{ known_rows(source_name, table_name, key, wanted) }}) as known
    ) as ranked
    where recency_rank = 1
{% endmacro %}

{# The business date of an instant: its local date in the book's zone. #}
{% macro business_date_of(instant) %}(({{ instant }}) at time zone (select zone from {{ ref('books') }} where book = 'global'))::date{% endmacro %}

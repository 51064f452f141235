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
{% macro consumed_rows(source_name, table_name, columns=['*']) %}
    select {% for column in columns %}raw_rows.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
    from {{ source(source_name, table_name) }} as raw_rows
    inner join {{ source('ops', 'close_batches') }} as close_batches
        on raw_rows.batch_id = close_batches.batch_id
        and close_batches.close_id = {{ close_id() }}
{% endmacro %}

{#
  The rows of some keys that this close knows, key by key through the index, so that the cost follows the day and not
  the history: `offset 0` keeps the planner from reading the whole table instead, which looks cheaper on any one day.
  `wanted` is a relation, CTE or subquery that has each key once; `condition` says which rows the index has.
#}
{% macro known_rows(source_name, table_name, key, wanted, columns=['*'], condition=none) %}
    select {% for column in columns %}raw_rows.{{ column }}, {% endfor %}visible.is_consumed_now
    from {{ wanted }} as wanted
    cross join lateral (
        select *
        from {{ source(source_name, table_name) }} as found
        where {% for column in key %}found.{{ column }} = wanted.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}
        {%- if condition %}
        and ({{ condition }})
        {%- endif %}

        offset 0
    ) as raw_rows
    inner join {{ ref('stg_visible_batches') }} as visible on raw_rows.batch_id = visible.batch_id
{% endmacro %}

{#
  Lines of a table of files that no document leads to the other versions of, by what the source declares; the index of
  raw has no others. While dbt parses there are no declarations yet.
#}
{% macro without_document(table_name) -%}
    {%- set source_id = 'source.' ~ project_name ~ '.files.' ~ table_name -%}
    {%- set ids = graph.sources[source_id].config.meta.get('lines_with_ids') if execute else [] -%}
    document_no is null {%- if ids %} or processor in ('{{ ids | join("', '") }}'){% endif %}
{%- endmacro %}

{#
  What stood before this close of the lines it consumes. The earlier versions of a line are in the earlier deliveries of
  its document, which are read whole: most documents have none, so that most lines are looked up nowhere. Lines with an
  id of their own, and those of no document, are asked for one by one.
#}
{% macro earlier_lines(table_name, columns) %}
    {%- set without_document = without_document(table_name) %}
    select *
    from ({{ known_rows(
        'files', table_name, ['row_key'], '(select distinct row_key from consumed where ' ~ without_document ~ ')',
        columns, without_document
    ) }}) as known
    where not is_consumed_now
    union all
    select {% for column in columns %}raw_rows.{{ column }}, {% endfor %}false as is_consumed_now
    from (
        select distinct visible.batch_id
        from (select distinct file_id, document_no from consumed where document_no is not null) as delivered
        inner join {{ source('ops', 'documents') }} as documents
            on delivered.file_id = documents.file_id and delivered.document_no = documents.document_no
        inner join {{ source('ops', 'documents') }} as deliveries
            on documents.kind = deliveries.kind and documents.identity = deliveries.identity
        inner join {{ source('ops', 'batches') }} as batches
            on deliveries.file_id = batches.file_id and batches.table_name = '{{ table_name }}'
        inner join {{ ref('stg_visible_batches') }} as visible
            on batches.batch_id = visible.batch_id and not visible.is_consumed_now
    ) as earlier
    cross join lateral (
        select * from {{ source('files', table_name) }} as found where found.batch_id = earlier.batch_id offset 0
    ) as raw_rows
    inner join (
        select distinct row_key from consumed where not ({{ without_document }})
    ) as wanted on raw_rows.row_key = wanted.row_key
{% endmacro %}

{#
  The rows this close consumes, version_rank 1 on the one that stands of each key, each with what stood before this
  close as prior_<column>. One order says what stands, before this close and after it: the latest arrival. Where an
  earlier date was closed again, it may know a version that arrived later than those of this close: then none of them is
  rank 1. Windows instead of a join to the earlier version: nobody can estimate how many rows have one.

  `standing`: when a version means money, in SQL. has_stood tells whether any version before this close did, so that
  what was taken back and comes again is told from what is new.
  `told_apart_by`: of a file's lines one batch may hold several of one key. Once their document comes again the loader says
  which of them is which, tombstones too; until then this order does. Each occurrence has versions of its own.
  `part_of`: the column that says what a row is part of. A version that is part of something stands before those that
  are part of nothing, whichever arrived later, until a tombstone ends it: one that was part of the same.
  `earlier`: SQL of what stood before, where it is not looked up by key.
#}
{% macro consumed_versions(source_name, table_name, key, prior_columns, standing='false', columns=['*'], told_apart_by=none, part_of=none, earlier=none) %}
    {#- Named here because dbt learns what a model stands on while it parses, when there is no close and no parent. #}
    {%- do ref('stg_visible_batches') %}
    {%- do source(source_name, table_name) %}
    {%- set keys = key | join(', ') %}
    {%- set thing = keys ~ (', occurrence' if told_apart_by else '') %}
    {%- set looked_up = known_rows(source_name, table_name, key, '(select distinct ' ~ keys ~ ' from consumed)', columns) %}
    select *
    from (
        with

        consumed as (
            {{ consumed_rows(source_name, table_name, columns) }}
        ),

        known as (
            select consumed.*, true as is_consumed_now
            from consumed
            {%- if var('parent_close_id') | int != 0 %}
            union all
            {{ earlier or 'select * from (' ~ looked_up ~ ') as earlier where not is_consumed_now' }}
            {%- endif %}
        ),

        told_apart as (
            select
                known.*
                {%- if told_apart_by %},
                coalesce(
                    repeated_rows.occurrence_no,
                    row_number() over (partition by {{ keys }}, known.batch_id order by {{ told_apart_by }})
                ) as occurrence
                {%- endif %}

            from known
            {%- if told_apart_by %}
            left join {{ source('ops', 'repeated_rows') }} as repeated_rows
                on known.batch_id = repeated_rows.batch_id and known.line_no = repeated_rows.row_no
            {%- endif %}
        ),

        weighed as (
            select
                told_apart.*
                {%- if part_of %},
                {{ part_of }} is not null and not is_deleted and batch_id > coalesce(
                    max(batch_id) filter (where is_deleted) over same_part, 0
                ) as is_part,
                {{ part_of }} is not null and not is_deleted and batch_id > coalesce(
                    max(batch_id) filter (where is_deleted and not is_consumed_now) over same_part, 0
                ) as was_part
                {%- endif %}

            from told_apart
            {%- if part_of %}
            window same_part as (partition by {{ thing }}, {{ part_of }})
            {%- endif %}

        ),

        ranked as (
            select
                weighed.*,
                row_number() over (
                    partition by {{ thing }} order by {{ 'is_part desc, ' if part_of }}batch_id desc
                ) as version_rank,
                row_number() over (
                    partition by {{ thing }}, is_consumed_now order by {{ 'was_part desc, ' if part_of }}batch_id desc
                ) as arrival_rank,
                row_number() over (partition by {{ thing }} order by is_consumed_now, batch_id) as version_no
            from weighed
        )

        select
            ranked.*,
            bool_or(not is_consumed_now) over same_thing as has_prior_version,
            bool_or(not is_consumed_now and ({{ standing }})) over same_thing as has_stood
            {%- for column in prior_columns %},
            max({{ column }}) filter (where not is_consumed_now and arrival_rank = 1) over same_thing as prior_{{ column }}
            {%- endfor %}

        from ranked
        window same_thing as (partition by {{ thing }})
    ) as versions
    where is_consumed_now
{% endmacro %}

{#
  The same for a table of files, whose lines are versions of one another by row_key and occurrence. Lines that are
  there count before tombstones, so that a repeated line that vanished once is taken back once. `columns` leaves out
  the record: nothing here reads it, and it would be sorted along. `by_document`: earlier versions are found by it.
#}
{% macro consumed_line_versions(table_name, columns, amounts, texts=[], part_of=none, by_document=false) %}
    {%- set priors = amounts + texts + (['batch_id', part_of] if part_of else []) %}
    {%- set taken = ['batch_id', 'is_deleted', 'row_key'] + columns %}
    {%- set earlier = earlier_lines(table_name, taken) if by_document else none %}
    select *, {{ version_reason(amounts, part_of) }} as version_reason
    from (
        select
            {% for column in ['batch_id', 'is_deleted', 'row_key', 'occurrence', 'version_rank', 'version_no', 'has_prior_version', 'has_stood'] + columns %}{{ column }}, {% endfor %}
            {% for prior in priors if prior not in amounts %}prior_{{ prior }}, {% endfor %}
            {% for amount in amounts %}coalesce(prior_{{ amount }}, 0) as prior_{{ amount }}{{ ', ' if not loop.last }}{% endfor %}

        from (
            {{ consumed_versions(
                'files', table_name, ['row_key'], priors, amounts | join(' <> 0 or ') ~ ' <> 0',
                taken, 'is_deleted, abs(line_no)', part_of, earlier
            ) }}
        ) as versions
    ) as compared
{% endmacro %}

{# What a line is called: by its file's content, which delivery of it this is after the first, and its number there. #}
{% macro line_key(files, lines) -%}
    left({{ files }}.sha256, 16) || case when {{ files }}.delivery > 1 then '.' || {{ files }}.delivery else '' end || ':' || {{ lines }}.line_no
{%- endmacro %}

{#
  Why a version of a line changes nothing in the books; null where it does. One that is part of nothing and says again
  what a version before it said, which is part of something, is unchanged.
#}
{% macro version_reason(amounts, part_of=none) %}
    {%- set is_same %}{% for amount in amounts %}{{ amount }} = prior_{{ amount }}{{ ' and ' if not loop.last }}{% endfor %}{% endset %}
    case
        {%- if part_of %}
        when {{ part_of }} is null and prior_{{ part_of }} is not null and batch_id > prior_batch_id and {{ is_same }} then 'UNCHANGED_VERSION'
        {%- endif %}
        when version_rank > 1 then 'SUPERSEDED_VERSION'
        when is_deleted and {% for amount in amounts %}prior_{{ amount }} = 0{{ ' and ' if not loop.last }}{% endfor %} then 'GONE_AT_SOURCE'
        when has_prior_version and {{ is_same }} then 'UNCHANGED_VERSION'
    end
{% endmacro %}

{# What tells one correction from another: the row is gone, or says something else now. Null where nothing is corrected. #}
{% macro correction_reason(is_correction) %}
    case when {{ is_correction }} then case when is_deleted then 'GONE_AT_SOURCE' else 'CHANGED_AT_SOURCE' end end
{% endmacro %}

{# What a later version's key ends with; the first one's stays what it was. #}
{% macro version_suffix(version_no) %}case when {{ version_no }} > 1 then '@' || {{ version_no }} else '' end{% endmacro %}

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

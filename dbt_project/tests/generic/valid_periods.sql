{#
  Question: does one row of a key hold on every day, from the first it speaks of?
  Passes if the periods of each key follow each other without a day between and the last one is open; fails on each row
  that overlaps the one before it, leaves days out, ends before it begins, or is the last and ends. Where a rule `may_end`,
  only overlapping and empty periods fail.
#}
{% test valid_periods(model, columns, may_end=false) %}
select *
from (
    select
        rules.*,
        lag(coalesce(valid_to, 'infinity'::date)) over same_key as ended_before,
        lead(valid_from) over same_key as next_from
    from {{ model }} as rules
    window same_key as (partition by {{ columns | join(', ') }} order by valid_from)
) as periods
where valid_from is null
    or valid_to <= valid_from
    or ended_before > valid_from
    {%- if not may_end %}
    or ended_before < valid_from
    or (next_from is null and valid_to is not null)
    {%- endif %}
{% endtest %}

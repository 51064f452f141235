{# Whether a row of a rules seed holds on a day: from valid_from until the day before valid_to. #}
{% macro holds_on(row, day) %}({{ row }}.valid_from <= {{ day }} and coalesce({{ row }}.valid_to, 'infinity'::date) > {{ day }}){% endmacro %}

{# A term of a processor or bank account: its own, else that of all others. `own` and `others` as join_terms names them. #}
{% macro term(seed, column) %}coalesce({{ seed }}.{{ column }}, other_{{ seed }}.{{ column }}){% endmacro %}

{# The terms that hold on an item's own day, in a seed that has a row * for whoever has none. #}
{% macro join_terms(seed, key, value, day) %}
    left join {{ ref(seed) }} as {{ seed }} on {{ seed }}.{{ key }} = {{ value }} and {{ holds_on(seed, day) }}
    left join {{ ref(seed) }} as other_{{ seed }} on other_{{ seed }}.{{ key }} = '*' and {{ holds_on('other_' ~ seed, day) }}
{% endmacro %}

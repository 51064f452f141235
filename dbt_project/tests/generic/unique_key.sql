{#
  Question: does a key stand for one row only?
  Passes if no key occurs twice; fails for each that does. A null is a value here: it may occur once.
#}
{% test unique_key(model, columns) %}
select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}

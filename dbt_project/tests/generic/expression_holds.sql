{#
  Question: does an arithmetic identity hold on every row?
  Passes if the expression is true on each row; fails on each row where it is false or null.
  Assumes nothing about the number of rows: a partition may be empty.
#}
{% test expression_holds(model, expression) %}
select *
from {{ model }}
where ({{ expression }}) is not true
{% endtest %}

{# A reference as banks hand it on: they set it in capitals and drop what is no letter or digit. #}
{% macro normalised_reference(reference) %}nullif(upper(regexp_replace({{ reference }}, '[^A-Za-z0-9]', '', 'g')), ''){% endmacro %}

{#
  The keys that a strong key leads to, as a query of one column: references joined by + are several, behind what all of
  them have in common.
#}
{% macro keys_named_by(strong_key) %}
select regexp_replace({{ strong_key }}, '[^|]*$', '') || reference
from unnest(string_to_array(substring({{ strong_key }} from '[^|]*$'), '+')) as reference
{%- endmacro %}

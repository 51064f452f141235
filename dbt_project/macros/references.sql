{# A reference as banks hand it on: they set it in capitals and drop what is no letter or digit. #}
{% macro normalised_reference(reference) %}nullif(upper(regexp_replace({{ reference }}, '[^A-Za-z0-9]', '', 'g')), ''){% endmacro %}

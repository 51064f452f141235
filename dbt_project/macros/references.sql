{# A reference as banks hand it on: they set it in capitals and drop what is no letter or digit. #}
{% macro normalised_reference(reference) %}nullif(upper(regexp_replace({{ reference }}, '[^A-Za-z0-9]', '', 'g')), ''){% endmacro %}

{# The keys that a key stands for: one for each reference it names, with a plus between them; else itself. #}
{% macro named_keys(key) %}array(
    select regexp_replace({{ key }}, '[^|]*$', '') || reference
    from unnest(string_to_array(substring({{ key }} from '[^|]*$'), '+')) as reference
){% endmacro %}

{# All marts land in the one schema that the profile names: the platform builds there, and publishes from there. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ target.schema }}
{%- endmacro %}

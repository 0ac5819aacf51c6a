{# When the engine last published a table, by its own account. #}
{% macro last_load(relation) -%}
    select max(finished_at)
    from ops.tables
    where status = 'published' and "table" = '{{ relation.schema }}.{{ relation.identifier }}'
{%- endmacro %}

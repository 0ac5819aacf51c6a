{# What people typed: no blanks around it, and NULL where nothing is left. #}
{% macro clean_text(column) -%}
    nullif(btrim({{ column }}::text, E' \t\r\n\u00a0'), '')
{%- endmacro %}

{# NULL for the days that other systems write for "not known" and "never". #}
{% macro clean_day(column) -%}
    nullif(nullif({{ column }}, date '1900-01-01'), date '9999-12-31')
{%- endmacro %}

{# A staff number as the hr database writes it: ANS-00012. #}
{% macro clean_number(column) -%}
    upper({{ clean_text(column) }})
{%- endmacro %}

{# The school's own wall clock at a moment. #}
{% macro local_time(column) -%}
    ({{ column }} at time zone '{{ var("time_zone") }}')
{%- endmacro %}

{# The first day of the school's month in which a moment lies. #}
{% macro month_of(column) -%}
    date_trunc('month', {{ local_time(column) }})::date
{%- endmacro %}

{# A label for people: class_test is "Class test". #}
{% macro label(column) -%}
    (upper(left({{ column }}, 1)) || replace(substr({{ column }}, 2), '_', ' '))
{%- endmacro %}

{% macro hours(column) -%}
    (extract(epoch from {{ column }}) / 3600)
{%- endmacro %}

{# No value of the column is below `least`; NULL is none. #}
{% test at_least(model, column_name, least) %}
    select {{ column_name }}
    from {{ model }}
    where {{ column_name }} < {{ least }}
{% endtest %}

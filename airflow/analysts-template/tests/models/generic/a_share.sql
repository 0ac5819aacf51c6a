{# Every value of the column is a share: between 0 and 1, or NULL. #}
{% test a_share(model, column_name) %}
    select {{ column_name }}
    from {{ model }}
    where {{ column_name }} not between 0 and 1
{% endtest %}

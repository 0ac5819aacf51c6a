{# No value of `columns` is below `least`; NULL is none. #}
{% test at_least(model, columns, least) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    where least({{ columns | join(', ') }}) < {{ least }}
{% endtest %}

{# Every value of `columns` is a share: between 0 and 1, or NULL. #}
{% test shares(model, columns) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    where least({{ columns | join(', ') }}) < 0 or greatest({{ columns | join(', ') }}) > 1
{% endtest %}

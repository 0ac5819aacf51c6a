{#
    Counts of students, with `fold` as 'Other' where there are too few in a row. `keep` are the
    other columns of the key.
#}
{% macro fold_small(relation, keep, fold) -%}
    select
        {{ keep | join(', ') }},
        case when students < {{ var('smallest_group') }} then 'Other' else {{ fold }} end as {{ fold }},
        sum(students) as students
    from {{ relation }}
    group by {{ range(1, keep | length + 2) | join(', ') }}
{%- endmacro %}

{#
    The name under which each group is shown: 'Other' if too few `people` are in it. Where those
    are too few even together, the smallest of the larger groups joins them, so that no sum leads
    back to them. `relation` has one row a `within` and `name`.
#}
{% macro shown_groups(relation, within, name) -%}
    select
        {{ within }},
        {{ name }},
        case
            when
                people < {{ var('smallest_group') }}
                or (in_small_groups < {{ var('smallest_group') }} and place = 1)
                then 'Other'
            else {{ name }}
        end as shown
    from (
        select
            {{ within }},
            {{ name }},
            people,
            sum(people) filter (where people < {{ var('smallest_group') }})
                over (partition by {{ within }}) as in_small_groups,
            row_number() over (
                partition by {{ within }}, people < {{ var('smallest_group') }}
                order by people, {{ name }}
            ) as place
        from {{ relation }}
    ) as ranked
{%- endmacro %}

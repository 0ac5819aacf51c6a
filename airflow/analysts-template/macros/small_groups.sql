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
    Which groups are too small to be shown by themselves: those of few `people`, and the smallest of
    the others where those are too few even together, so that no sum leads back to them. `relation`
    has one row for each of the columns `within` and the column `name`.
#}
{% macro small_groups(relation, within, name) -%}
    select
        {{ within | join(', ') }},
        {{ name }},
        people < {{ var('smallest_group') }}
        or coalesce(in_small_groups < {{ var('smallest_group') }} and place = 1, false) as small
    from (
        select
            {{ within | join(', ') }},
            {{ name }},
            people,
            sum(people) filter (where people < {{ var('smallest_group') }})
                over (partition by {{ within | join(', ') }}) as in_small_groups,
            row_number() over (
                partition by {{ within | join(', ') }}, people < {{ var('smallest_group') }}
                order by people, {{ name }}
            ) as place
        from {{ relation }}
    ) as ranked
{%- endmacro %}

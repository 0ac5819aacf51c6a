{% set tables = {
    'records': ['programmes', 'students', 'courses', 'enrolments', 'exams', 'results'],
    'hr': ['departments', 'grades', 'employees', 'leave', 'leave_entitlements', 'payroll'],
    'service_desk': ['assets', 'tickets', 'comments', 'service_targets'],
} -%}

with changes as (
    {% for source, names in tables.items() %}
    {%- for name in names %}
    select
        '{{ source }}' as source,
        max(updated_at) as changed_at
    from {{ ref('stg_' ~ source ~ '__' ~ name) }}
    union all
    {%- endfor %}
    {%- endfor %}
    select
        'platform',
        max(finished_at)
    from {{ ref('stg_platform__runs') }}
),

loads as (
    select
        source,
        table_name,
        max(finished_at) as loaded_at
    from {{ ref('stg_platform__tables') }}
    where status = 'published' and still_there
    group by 1, 2
),

-- A source is as new as the one of its tables that was loaded longest ago.
loaded as (
    select
        source,
        min(loaded_at) as loaded_at
    from loads
    group by 1
    union all
    select
        'platform',
        max(finished_at)
    from {{ ref('stg_platform__runs') }}
),

dated as (
    select
        changes.source,
        max(changes.changed_at) as as_of,
        max(loaded.loaded_at) as loaded_at
    from changes
    left join loaded using (source)
    group by 1
)

select
    source,
    as_of,
    loaded_at
from dated
union all
select
    'overall',
    min(as_of),
    min(loaded_at)
from dated
where source <> 'platform'

with entitled as (
    select
        entitlements.year,
        entitlements.employee_id,
        departments.department,
        entitlements.days
    from {{ ref('stg_hr__leave_entitlements') }} as entitlements
    inner join {{ ref('stg_hr__employees') }} as employees using (employee_id)
    inner join {{ ref('stg_hr__departments') }} as departments using (department_id)
),

-- A request may run over the turn of a year: each working day counts in its own. One without an
-- end has no days to count.
taken as (
    select
        leave.employee_id,
        extract(year from days.day)::smallint as year,
        count(*) filter (where leave.kind = 'annual') as annual_days,
        count(*) filter (where leave.kind <> 'annual') as other_days
    from {{ ref('stg_hr__leave') }} as leave
    cross join lateral generate_series(
        leave.starts_on::timestamp, leave.ends_on::timestamp, interval '1 day'
    ) as days (day)
    where leave.approved and extract(isodow from days.day) <= 5
    group by 1, 2
),

sizes as (
    select
        year,
        department,
        count(*) as people
    from entitled
    group by 1, 2
),

groups as (
    {{ small_groups('sizes', ['year'], 'department') }}
),

summed as (
    select
        entitled.year,
        case when groups.small then 'Other' else entitled.department end as department,
        count(*) as employees,
        sum(entitled.days) as entitled_days,
        coalesce(sum(taken.annual_days), 0) as taken_days,
        coalesce(sum(taken.other_days), 0) as other_days
    from entitled
    inner join groups
        on entitled.year = groups.year
        and entitled.department = groups.department
    left join taken
        on entitled.year = taken.year
        and entitled.employee_id = taken.employee_id
    group by 1, 2
)

select
    year,
    department,
    employees,
    entitled_days,
    taken_days,
    entitled_days - taken_days as owed_days,
    other_days
from summed
where employees >= {{ var('smallest_group') }}

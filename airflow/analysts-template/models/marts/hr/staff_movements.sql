with months as (
    select generate_series(min(month), max(month), interval '1 month')::date as month
    from {{ ref('stg_hr__payroll') }}
),

moved as (
    select
        department_id,
        date_trunc('month', hired_on)::date as month,
        1 as joined,
        0 as left_school
    from {{ ref('stg_hr__employees') }}
    union all
    select
        department_id,
        date_trunc('month', left_on)::date,
        0,
        1
    from {{ ref('stg_hr__employees') }}
)

select
    months.month,
    departments.department,
    coalesce(sum(moved.joined), 0)::bigint as joiners,
    coalesce(sum(moved.left_school), 0)::bigint as leavers
from months
cross join {{ ref('stg_hr__departments') }} as departments
left join moved
    on months.month = moved.month
    and departments.department_id = moved.department_id
group by 1, 2

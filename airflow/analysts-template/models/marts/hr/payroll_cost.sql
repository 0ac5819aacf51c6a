with paid as (
    select
        payroll.month,
        departments.department,
        payroll.gross,
        payroll.pension,
        payroll.tax,
        payroll.net
    from {{ ref('stg_hr__payroll') }} as payroll
    inner join {{ ref('stg_hr__employees') }} as employees using (employee_id)
    inner join {{ ref('stg_hr__departments') }} as departments using (department_id)
),

sizes as (
    select
        month,
        department,
        count(*) as people
    from paid
    group by 1, 2
),

groups as (
    {{ small_groups('sizes', ['month'], 'department') }}
),

summed as (
    select
        paid.month,
        case when groups.small then 'Other' else paid.department end as department,
        count(*) as employees,
        sum(paid.gross) as gross,
        sum(paid.pension) as pension,
        sum(paid.tax) as tax,
        sum(paid.net) as net
    from paid
    inner join groups
        on paid.month = groups.month
        and paid.department = groups.department
    group by 1, 2
)

select
    month,
    department,
    employees,
    gross,
    pension,
    tax,
    net
from summed
where employees >= {{ var('smallest_group') }}

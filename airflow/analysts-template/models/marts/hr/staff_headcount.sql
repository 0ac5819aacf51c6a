with months as (
    select generate_series(min(month), max(month), interval '1 month')::date as month
    from {{ ref('stg_hr__payroll') }}
)

select
    months.month,
    departments.department,
    grades.grade_code,
    grades.grade,
    count(*) as employees
from months
inner join {{ ref('stg_hr__employees') }} as employees
    on coalesce(employees.hired_on, '-infinity') < months.month + interval '1 month'
    and coalesce(employees.left_on, 'infinity') >= months.month + interval '1 month'
inner join {{ ref('stg_hr__departments') }} as departments using (department_id)
inner join {{ ref('stg_hr__grades') }} as grades using (grade_id)
group by 1, 2, 3, 4

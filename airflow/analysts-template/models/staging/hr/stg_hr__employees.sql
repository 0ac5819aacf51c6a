-- No name, number, mail, birthday or salary: what the marts may not show stays out from here on.
select
    id as employee_id,
    department_id,
    grade_id,
    {{ clean_day('hired_on') }} as hired_on,
    {{ clean_day('left_on') }} as left_on,
    updated_at
from {{ source('hr', 'employees') }}

select
    employee_id,
    month,
    gross,
    pension,
    tax,
    net,
    updated_at
from {{ source('hr', 'payroll') }}

select
    employee_id,
    year,
    days,
    updated_at
from {{ source('hr', 'leave_entitlements') }}

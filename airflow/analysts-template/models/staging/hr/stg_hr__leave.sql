select
    employee_id,
    kind::text as kind,
    starts_on,
    ends_on,
    coalesce(approved, false) as approved,
    updated_at
from {{ source('hr', 'leave') }}

select
    employee_id,
    kind::text as kind,
    {{ clean_day('starts_on') }} as starts_on,
    {{ clean_day('ends_on') }} as ends_on,
    coalesce(approved, false) as approved,
    updated_at
from {{ source('hr', 'leave') }}

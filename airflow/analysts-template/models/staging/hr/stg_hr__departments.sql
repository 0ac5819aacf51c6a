select
    id as department_id,
    {{ clean_text('name') }} as department,
    updated_at
from {{ source('hr', 'departments') }}

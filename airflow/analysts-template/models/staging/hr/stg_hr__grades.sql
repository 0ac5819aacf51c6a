select
    id as grade_id,
    {{ clean_text('code') }} as grade_code,
    {{ clean_text('name') }} as grade,
    updated_at
from {{ source('hr', 'grades') }}

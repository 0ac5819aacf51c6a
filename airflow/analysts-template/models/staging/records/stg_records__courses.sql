select
    id as course_id,
    {{ clean_text('code') }} as course_code,
    {{ clean_text('title') }} as course,
    updated_at
from {{ source('records', 'courses') }}

select
    id as programme_id,
    {{ clean_text('name') }} as programme,
    updated_at
from {{ source('records', 'programmes') }}

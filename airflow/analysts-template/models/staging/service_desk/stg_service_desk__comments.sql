select
    ticket_id,
    {{ clean_number('author') }} as author,
    internal,
    created_at,
    updated_at
from {{ source('service_desk', 'comments') }}

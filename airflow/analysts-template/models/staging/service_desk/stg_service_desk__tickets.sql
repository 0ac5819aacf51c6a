-- The requester tells an answer from the requester's own words, and goes into no mart.
select
    id as ticket_id,
    asset_id,
    {{ clean_number('requester') }} as requester,
    priority,
    opened_at,
    closed_at,
    updated_at
from {{ source('service_desk', 'tickets') }}

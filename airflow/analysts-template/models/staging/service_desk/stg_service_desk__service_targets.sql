select
    priority,
    first_answer,
    resolution,
    updated_at
from {{ source('service_desk', 'service_targets') }}

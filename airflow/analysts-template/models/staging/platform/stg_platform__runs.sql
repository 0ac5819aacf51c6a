select
    pipeline as source,
    run_id,
    started_at,
    finished_at,
    status,
    attempts
from {{ source('platform', 'runs') }}

select
    source,
    table_name,
    run_id,
    {{ local_time('started_at') }}::date as day,
    load,
    status,
    rows_read,
    inserted,
    updated,
    deleted,
    rows,
    round(bytes / 1e6, 3) as megabytes,
    round(seconds, 2) as seconds,
    finished_at
from {{ ref('stg_platform__tables') }}

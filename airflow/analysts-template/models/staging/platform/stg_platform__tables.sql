-- Without the texts of errors and the values of cursors, which may repeat a row of a source.
select
    pipeline as source,
    run_id,
    "table" as table_name,
    nullif(load, '') as load,
    status,
    rows_read,
    bytes,
    inserted,
    updated,
    deleted,
    rows,
    seconds,
    started_at,
    finished_at
from {{ source('platform', 'tables') }}

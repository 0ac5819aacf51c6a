-- Without what was found and its samples, which repeat values and keys of rows.
select
    pipeline as source,
    run_id,
    "table" as table_name,
    "check" as check_name,
    passed,
    expected,
    checked_at
from {{ source('platform', 'checks') }}

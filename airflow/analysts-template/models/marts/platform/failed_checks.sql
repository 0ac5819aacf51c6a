select
    source,
    table_name,
    run_id,
    check_name,
    expected,
    {{ local_time('checked_at') }}::date as day,
    checked_at
from {{ ref('stg_platform__checks') }}
where not passed

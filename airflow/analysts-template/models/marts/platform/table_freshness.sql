select distinct on (source, table_name)
    source,
    table_name,
    finished_at as loaded_at,
    round({{ hours('now() - finished_at') }}, 2) as hours_old,
    now() - finished_at > interval '26 hours' as late,
    rows
from {{ ref('stg_platform__tables') }}
where status = 'published' and still_there
order by source, table_name, finished_at desc

with loaded as (
    select
        source,
        run_id,
        count(*) filter (where status = 'published') as tables_published,
        count(*) filter (where status = 'failed') as tables_failed
    from {{ ref('stg_platform__tables') }}
    group by 1, 2
),

checked as (
    select
        source,
        run_id,
        count(*) as checks,
        count(*) filter (where not passed) as checks_failed
    from {{ ref('stg_platform__checks') }}
    group by 1, 2
)

select
    runs.source,
    runs.run_id,
    {{ local_time('runs.started_at') }}::date as day,
    runs.started_at,
    runs.finished_at,
    runs.status,
    runs.attempts,
    round({{ hours('runs.finished_at - runs.started_at') }} * 60, 2) as minutes,
    coalesce(loaded.tables_published, 0) as tables_published,
    coalesce(loaded.tables_failed, 0) as tables_failed,
    coalesce(checked.checks, 0) as checks,
    coalesce(checked.checks_failed, 0) as checks_failed
from {{ ref('stg_platform__runs') }} as runs
left join loaded using (source, run_id)
left join checked using (source, run_id)

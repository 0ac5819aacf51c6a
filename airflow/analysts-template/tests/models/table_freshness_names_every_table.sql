-- Each table that the engine published and that is still there has a row, by its newest load.
with published as (
    select "table" as table_name, max(finished_at) as loaded_at
    from {{ source('platform', 'tables') }}
    where status = 'published' and to_regclass("table") is not null
    group by 1
)

select *
from published
full join {{ ref('table_freshness') }} as shown using (table_name)
where published.loaded_at is distinct from shown.loaded_at

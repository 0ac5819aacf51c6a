-- Each table that the engine published stands there, and its newest load among the loads.
select published."table", shown.table_name
from (
    select distinct "table" from {{ source('platform', 'tables') }} where status = 'published'
) as published
full join {{ ref('table_freshness') }} as shown on published."table" = shown.table_name
left join {{ ref('table_loads') }} as loads
    on shown.table_name = loads.table_name and shown.loaded_at = loads.finished_at
where published."table" is null or loads.table_name is null

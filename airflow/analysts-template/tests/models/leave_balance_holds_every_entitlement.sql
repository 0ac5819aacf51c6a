with entitled as (
    select year, sum(days) as days
    from {{ source('hr', 'leave_entitlements') }}
    group by 1
    having count(*) >= {{ var('smallest_group') }}
),

shown as (
    select year, sum(entitled_days) as days
    from {{ ref('leave_balance') }}
    group by 1
)

select *
from entitled
full join shown using (year)
where entitled.days is distinct from shown.days

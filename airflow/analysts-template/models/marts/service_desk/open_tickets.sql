with known as (
    select greatest(
        (select max(updated_at) from {{ ref('stg_service_desk__tickets') }}),
        (select max(updated_at) from {{ ref('stg_service_desk__comments') }})
    ) as as_of
),

aged as (
    select
        tickets.priority,
        coalesce(assets.asset_kind, 'No asset') as asset_kind,
        known.as_of - tickets.opened_at as age,
        targets.resolution,
        {{ local_time('tickets.opened_at') }}::date as opened_on
    from {{ ref('stg_service_desk__tickets') }} as tickets
    cross join known
    inner join {{ ref('stg_service_desk__service_targets') }} as targets using (priority)
    left join {{ ref('stg_service_desk__assets') }} as assets using (asset_id)
    where tickets.closed_at is null
),

banded as (
    select
        *,
        case
            when age < interval '1 day' then 1
            when age < interval '7 days' then 2
            when age < interval '30 days' then 3
            when age < interval '90 days' then 4
            else 5
        end as band
    from aged
)

select
    band::smallint as age_order,
    (array[
        'Under 1 day', '1 to 7 days', '7 to 30 days', '30 to 90 days', 'Over 90 days'
    ])[band] as age_band,
    priority,
    asset_kind,
    count(*) as tickets,
    count(*) filter (where age > resolution) as past_target,
    min(opened_on) as oldest_opened_on
from banded
group by 1, 2, 3, 4

with recorded as (
    select count(*) as tickets, count(*) filter (where closed_at is null) as still_open
    from {{ source('service_desk', 'tickets') }}
),

shown as (
    select
        (select sum(tickets) from {{ ref('tickets_by_month') }}) as tickets,
        (select coalesce(sum(tickets), 0) from {{ ref('open_tickets') }}) as still_open
)

select *
from recorded
cross join shown
where (recorded.tickets, recorded.still_open) is distinct from (shown.tickets, shown.still_open)

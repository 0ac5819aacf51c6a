with answers as (
    select
        tickets.ticket_id,
        min(comments.created_at) as answered_at
    from {{ ref('stg_service_desk__tickets') }} as tickets
    inner join {{ ref('stg_service_desk__comments') }} as comments
        on tickets.ticket_id = comments.ticket_id
        and tickets.requester <> comments.author
        and tickets.opened_at <= comments.created_at
        and not comments.internal
    group by 1
),

known as (
    select greatest(
        (select max(updated_at) from {{ ref('stg_service_desk__tickets') }}),
        (select max(updated_at) from {{ ref('stg_service_desk__comments') }})
    ) as as_of
),

measured as (
    select
        {{ month_of('tickets.opened_at') }} as month,
        tickets.priority,
        coalesce(assets.asset_kind, 'No asset') as asset_kind,
        answers.answered_at is not null as answered,
        tickets.closed_at is not null as resolved,
        answers.answered_at - tickets.opened_at as to_answer,
        tickets.closed_at - tickets.opened_at as to_resolution,
        -- What nobody did yet has lasted until now.
        coalesce(answers.answered_at, tickets.closed_at, known.as_of) - tickets.opened_at
            <= targets.first_answer as answer_in_time,
        coalesce(tickets.closed_at, known.as_of) - tickets.opened_at
            <= targets.resolution as resolution_in_time,
        targets.first_answer,
        targets.resolution
    from {{ ref('stg_service_desk__tickets') }} as tickets
    cross join known
    inner join {{ ref('stg_service_desk__service_targets') }} as targets using (priority)
    left join {{ ref('stg_service_desk__assets') }} as assets using (asset_id)
    left join answers using (ticket_id)
),

decided as (
    select
        *,
        answered or not answer_in_time as answer_decided,
        resolved or not resolution_in_time as resolution_decided
    from measured
)

select
    month,
    priority,
    asset_kind,
    count(*) as tickets,
    count(*) filter (where answered) as answered,
    count(*) filter (where resolved) as resolved,
    round((percentile_cont(0.5) within group (
        order by {{ hours('to_answer') }}::float
    ))::numeric, 2) as median_hours_to_answer,
    round({{ hours('first_answer') }}::numeric, 2) as target_hours_to_answer,
    round(
        (count(*) filter (where answered and answer_in_time))::numeric
        / nullif(count(*) filter (where answer_decided), 0), 4
    ) as answered_in_time,
    round((percentile_cont(0.5) within group (
        order by {{ hours('to_resolution') }}::float
    ))::numeric, 2) as median_hours_to_resolution,
    round({{ hours('resolution') }}::numeric, 2) as target_hours_to_resolution,
    round(
        (count(*) filter (where resolved and resolution_in_time))::numeric
        / nullif(count(*) filter (where resolution_decided), 0), 4
    ) as resolved_in_time
from decided
group by month, priority, asset_kind, first_answer, resolution

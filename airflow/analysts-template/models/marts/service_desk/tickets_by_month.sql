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

counted as (
    select
        month,
        priority,
        asset_kind,
        first_answer,
        resolution,
        count(*) as tickets,
        count(*) filter (where answered) as answered,
        count(*) filter (where resolved) as resolved,
        percentile_cont(0.5) within group (order by to_answer) as median_to_answer,
        count(*) filter (where answered or not answer_in_time) as answers_due,
        count(*) filter (where answered and answer_in_time) as answers_in_time,
        percentile_cont(0.5) within group (order by to_resolution) as median_to_resolution,
        count(*) filter (where resolved or not resolution_in_time) as resolutions_due,
        count(*) filter (where resolved and resolution_in_time) as resolutions_in_time
    from measured
    group by 1, 2, 3, 4, 5
)

select
    month,
    priority,
    asset_kind,
    tickets,
    answered,
    resolved,
    round({{ hours('median_to_answer') }}, 2) as median_hours_to_answer,
    round({{ hours('first_answer') }}, 2) as target_hours_to_answer,
    answers_due,
    answers_in_time,
    round(answers_in_time::numeric / nullif(answers_due, 0), 4) as share_answered_in_time,
    round({{ hours('median_to_resolution') }}, 2) as median_hours_to_resolution,
    round({{ hours('resolution') }}, 2) as target_hours_to_resolution,
    resolutions_due,
    resolutions_in_time,
    round(resolutions_in_time::numeric / nullif(resolutions_due, 0), 4) as share_resolved_in_time
from counted

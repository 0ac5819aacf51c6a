-- Two marts look at the same scripts.
with counted as (
    select 'exam_results' as mart, academic_year, sum(scripts) as scripts
    from {{ ref('exam_results') }}
    group by 1, 2
    union all
    select 'pass_rates', academic_year, sum(scripts)
    from {{ ref('pass_rates') }}
    group by 1, 2
),

recorded as (
    select academic_year, count(*) as scripts
    from {{ source('records', 'results') }}
    group by 1
)

select *
from counted
full join recorded using (academic_year)
where counted.scripts is distinct from recorded.scripts

with marked as (
    select
        exams.academic_year,
        courses.course_code,
        courses.course,
        exams.exam,
        count(*) as scripts,
        count(results.score) as sat,
        count(*) filter (where results.passed) as passed,
        avg(results.score) as average_score,
        percentile_cont(0.5) within group (order by results.score) as median_score
    from {{ ref('stg_records__results') }} as results
    inner join {{ ref('stg_records__exams') }} as exams using (exam_id)
    inner join {{ ref('stg_records__courses') }} as courses using (course_id)
    group by 1, 2, 3, 4
)

select
    academic_year,
    course_code,
    course,
    exam,
    scripts,
    scripts - sat as absent,
    case when sat >= {{ var('smallest_group') }} then passed end as passed,
    case when sat >= {{ var('smallest_group') }} then round(passed::numeric / sat, 4) end as pass_rate,
    case when sat >= {{ var('smallest_group') }} then round(average_score, 2) end as average_score,
    case
        when sat >= {{ var('smallest_group') }} then round(median_score::numeric, 2)
    end as median_score
from marked

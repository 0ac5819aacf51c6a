with marked as (
    select
        exams.academic_year,
        courses.course_code,
        courses.course,
        students.cohort,
        count(*) as scripts,
        count(results.score) as sat,
        count(distinct results.student_id) filter (where results.score is not null) as students,
        count(*) filter (where results.passed) as passed
    from {{ ref('stg_records__results') }} as results
    inner join {{ ref('stg_records__exams') }} as exams using (exam_id)
    inner join {{ ref('stg_records__courses') }} as courses using (course_id)
    inner join {{ ref('stg_records__students') }} as students using (student_id)
    group by 1, 2, 3, 4
)

select
    academic_year,
    course_code,
    course,
    cohort,
    scripts,
    case when students >= {{ var('smallest_group') }} then passed end as passed,
    case
        when students >= {{ var('smallest_group') }} then round(passed::numeric / sat, 4)
    end as pass_rate
from marked

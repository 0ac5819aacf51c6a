with marked as (
    select
        exams.academic_year,
        courses.course_code,
        courses.course,
        students.cohort,
        count(*) as scripts,
        count(results.score) as sat,
        count(distinct results.student_id) filter (where results.score is not null) as people,
        count(*) filter (where results.passed) as passed
    from {{ ref('stg_records__results') }} as results
    inner join {{ ref('stg_records__exams') }} as exams using (exam_id)
    inner join {{ ref('stg_records__courses') }} as courses using (course_id)
    inner join {{ ref('stg_records__students') }} as students using (student_id)
    group by 1, 2, 3, 4
),

groups as (
    {{ small_groups('marked', ['academic_year', 'course_code'], 'cohort') }}
)

select
    marked.academic_year,
    marked.course_code,
    marked.course,
    marked.cohort,
    marked.scripts,
    case when not groups.small then marked.passed end as passed,
    case when not groups.small then round(marked.passed::numeric / marked.sat, 4) end as pass_rate
from marked
inner join groups using (academic_year, course_code, cohort)

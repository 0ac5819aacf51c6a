-- The records keep no form by year. Whoever repeats takes the same courses once more, so a year
-- without a single new course is a year repeated; any other moves a student up by one form.
with attended as (
    select
        student_id,
        academic_year,
        array_agg(distinct course_id order by course_id) as courses
    from {{ ref('stg_records__enrolments') }}
    group by 1, 2
),

compared as (
    select
        student_id,
        academic_year,
        coalesce(
            courses <@ lag(courses) over (partition by student_id order by academic_year), false
        ) as repeated
    from attended
),

placed as (
    select
        student_id,
        academic_year,
        repeated,
        count(*) filter (where not repeated)
            over (partition by student_id order by academic_year) as form
    from compared
),

cohorts as (
    select
        students.student_id,
        students.cohort,
        years.academic_year
    from {{ ref('stg_records__students') }} as students
    inner join (select distinct academic_year from attended) as years
        on years.academic_year >= students.cohort
),

went as (
    select
        cohorts.cohort,
        cohorts.academic_year,
        this_year.student_id is not null as here,
        last_year.student_id is not null as was_here,
        coalesce(this_year.repeated, false) as repeated,
        coalesce(last_year.form >= 3, false) as was_in_last_form
    from cohorts
    left join placed as this_year
        on cohorts.student_id = this_year.student_id
        and cohorts.academic_year = this_year.academic_year
    left join placed as last_year
        on cohorts.student_id = last_year.student_id
        and cohorts.academic_year - 1 = last_year.academic_year
)

select
    cohort,
    academic_year::smallint as academic_year,
    (academic_year - cohort + 1)::smallint as year_at_school,
    count(*) as admitted,
    count(*) filter (where here) as still_here,
    count(*) filter (where here and was_here and not repeated) as moved_up,
    count(*) filter (where here and was_here and repeated) as repeated,
    count(*) filter (where was_here and not here and not was_in_last_form) as left_early,
    count(*) filter (where was_here and not here and was_in_last_form) as finished
from went
group by 1, 2, 3

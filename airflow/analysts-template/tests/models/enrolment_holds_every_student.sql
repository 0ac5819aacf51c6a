-- Every student of every year is counted once, under whatever name.
with counted as (
    select academic_year, sum(students) as students
    from {{ ref('enrolment') }}
    group by 1
),

enrolled as (
    select academic_year, count(distinct student_id) as students
    from {{ source('records', 'enrolments') }}
    group by 1
)

select *
from counted
full join enrolled using (academic_year)
where counted.students is distinct from enrolled.students

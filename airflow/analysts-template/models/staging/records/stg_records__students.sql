-- No name, number, address or birthday: what the marts may not show stays out from here on.
select
    id as student_id,
    programme_id,
    coalesce({{ label('sex::text') }}, 'Not recorded') as sex,
    coalesce({{ clean_text('region') }}, 'Not recorded') as region,
    -- Where nobody knows the day, the first year of which there are enrolments.
    coalesce(
        extract(year from {{ clean_day('admitted_on') }}),
        (
            select min(enrolments.academic_year)
            from {{ source('records', 'enrolments') }} as enrolments
            where enrolments.student_id = students.id
        )
    )::smallint as cohort,
    updated_at
from {{ source('records', 'students') }} as students

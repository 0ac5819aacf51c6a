select
    student_id,
    course_id,
    academic_year,
    updated_at
from {{ source('records', 'enrolments') }}

select
    exam_id,
    academic_year,
    student_id,
    score,
    score >= {{ var('pass_mark') }} as passed,
    updated_at
from {{ source('records', 'results') }}

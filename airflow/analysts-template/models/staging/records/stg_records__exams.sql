select
    id as exam_id,
    course_id,
    academic_year,
    {{ label('kind::text') }} as exam,
    updated_at
from {{ source('records', 'exams') }}

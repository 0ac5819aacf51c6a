-- No name, number, address or birthday: what the marts may not show stays out from here on.
select
    id as student_id,
    programme_id,
    coalesce({{ label('sex::text') }}, 'Not recorded') as sex,
    coalesce({{ clean_text('region') }}, 'Not recorded') as region,
    {{ clean_day('admitted_on') }} as admitted_on,
    extract(year from admitted_on)::smallint as cohort,
    updated_at
from {{ source('records', 'students') }}

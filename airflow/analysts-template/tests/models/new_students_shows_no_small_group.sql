select *
from {{ ref('new_students') }}
where students < {{ var('smallest_group') }} and (programme, sex) <> ('Other', 'Other')

select *
from {{ ref('enrolment') }}
where students < {{ var('smallest_group') }}
    and (programme, sex, region) <> ('Other', 'Other', 'Other')

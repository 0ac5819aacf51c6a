-- Whoever attended moved up, repeated or is gone in the next year, and nobody is two of these.
select *
from {{ ref('progression') }} as this_year
left join {{ ref('progression') }} as last_year
    on this_year.cohort = last_year.cohort
    and this_year.academic_year = last_year.academic_year + 1
where coalesce(last_year.still_here, 0)
    <> this_year.moved_up + this_year.repeated + this_year.left_early + this_year.finished

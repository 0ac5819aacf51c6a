-- Whoever attended moved up, repeated or is gone in the next year, and nobody is two of these.
select *
from {{ ref('progression') }} as last_year
inner join {{ ref('progression') }} as this_year
    on last_year.cohort = this_year.cohort
    and last_year.academic_year + 1 = this_year.academic_year
where last_year.still_here
    <> this_year.moved_up + this_year.repeated + this_year.left_early + this_year.finished

-- Who is here at a month's end was here at the last one's or came, and did not leave.
with counted as (
    select movements.month, movements.department, movements.joiners, movements.leavers,
        coalesce(sum(headcount.employees), 0) as employees
    from {{ ref('staff_movements') }} as movements
    left join {{ ref('staff_headcount') }} as headcount using (month, department)
    group by 1, 2, 3, 4
)

select *
from counted as this_month
inner join counted as last_month
    on this_month.department = last_month.department
    and this_month.month = last_month.month + interval '1 month'
where this_month.employees <> last_month.employees + this_month.joiners - this_month.leavers

with paid as (
    select month, count(*) as employees, sum(gross) as gross, sum(net) as net
    from {{ source('hr', 'payroll') }}
    group by 1
    having count(*) >= {{ var('smallest_group') }}
),

shown as (
    select month, sum(employees) as employees, sum(gross) as gross, sum(net) as net
    from {{ ref('payroll_cost') }}
    group by 1
)

select *
from paid
full join shown using (month)
where (paid.employees, paid.gross, paid.net)
    is distinct from (shown.employees, shown.gross, shown.net)

select counted.students, admitted.students as expected
from (select sum(students) as students from {{ ref('new_students') }}) as counted
cross join (select count(*) as students from {{ source('records', 'students') }}) as admitted
where counted.students <> admitted.students

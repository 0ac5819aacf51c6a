-- Small groups give up their sex first, then their programme.
with counted as (
    select
        students.cohort as year,
        programmes.programme,
        students.sex,
        count(*) as students
    from {{ ref('stg_records__students') }} as students
    inner join {{ ref('stg_records__programmes') }} as programmes using (programme_id)
    group by 1, 2, 3
),

without_sexes as (
    {{ fold_small('counted', ['year', 'programme'], 'sex') }}
),

without_programmes as (
    {{ fold_small('without_sexes', ['year', 'sex'], 'programme') }}
)

select
    year,
    programme,
    sex,
    students::bigint as students
from without_programmes

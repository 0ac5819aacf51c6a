-- Small groups give up their region first, then their sex, then their programme.
with students as (
    select distinct
        academic_year,
        student_id
    from {{ ref('stg_records__enrolments') }}
),

counted as (
    select
        students.academic_year,
        programmes.programme,
        known.sex,
        known.region,
        count(*) as students
    from students
    inner join {{ ref('stg_records__students') }} as known using (student_id)
    inner join {{ ref('stg_records__programmes') }} as programmes using (programme_id)
    group by 1, 2, 3, 4
),

without_regions as (
    {{ fold_small('counted', ['academic_year', 'programme', 'sex'], 'region') }}
),

without_sexes as (
    {{ fold_small('without_regions', ['academic_year', 'programme', 'region'], 'sex') }}
),

without_programmes as (
    {{ fold_small('without_sexes', ['academic_year', 'region', 'sex'], 'programme') }}
)

select
    academic_year,
    programme,
    sex,
    region,
    students::bigint as students
from without_programmes

-- Without the texts of errors and the values of cursors, which may repeat a row of a source.
select
    pipeline as source,
    run_id,
    "table" as table_name,
    nullif(load, '') as load,
    status,
    rows_read,
    bytes,
    inserted,
    updated,
    deleted,
    rows,
    seconds,
    started_at,
    finished_at,
    -- A table that left the source keeps its history here. Names in ops have quotes where needed.
    exists (
        select
        from pg_catalog.pg_class as relations
        inner join pg_catalog.pg_namespace as schemas on relations.relnamespace = schemas.oid
        where schemas.nspname || '.' || relations.relname = replace("table", '"', '')
    ) as still_there
from {{ source('platform', 'tables') }}

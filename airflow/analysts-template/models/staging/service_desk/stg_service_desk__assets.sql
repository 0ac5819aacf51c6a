select
    id as asset_id,
    {{ label('kind::text') }} as asset_kind,
    updated_at
from {{ source('service_desk', 'assets') }}

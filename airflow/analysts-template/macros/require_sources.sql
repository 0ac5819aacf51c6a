{# Ends the run with one sentence if a table that the chosen models read is not in the warehouse. #}
{% macro require_sources() -%}
    {% if execute %}
        {% set known = [] %}
        {% for source in graph.sources.values() if source.unique_id in selected_resources %}
            {% do known.append(source.schema ~ '.' ~ source.identifier) %}
        {% endfor %}
        {% set missing = run_query(
            "select name from unnest(string_to_array('" ~ known | join(',') ~ "', ',')) as name"
            ~ " where to_regclass(name) is null order by name"
        ).columns[0].values() %}
        {% if missing %}
            {% do exceptions.raise_compiler_error(
                'tables ' ~ missing | join(', ') ~ ': expected them in the warehouse, found none'
                ~ '\nHINT: Run the DAGs ingest_records, ingest_hr and ingest_service_desk, which publish'
                ~ ' them, and build the models again. The role needs USAGE on their schemas.'
            ) %}
        {% endif %}
    {% endif %}
    select 1
{%- endmacro %}

{# Ends the run with one sentence if a table that the chosen models read is not in the warehouse. #}
{% macro require_sources() -%}
    {% if execute %}
        {% set known = [] %}
        {% for model in graph.nodes.values() if model.unique_id in selected_resources %}
            {% for id in model.depends_on.nodes if id in graph.sources %}
                {% do known.append(graph.sources[id].schema ~ '.' ~ graph.sources[id].identifier) %}
            {% endfor %}
        {% endfor %}
        {% set missing = run_query(
            "select name from unnest(string_to_array('" ~ known | unique | join(',') ~ "', ',')) as name"
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

"""Jobs of Nomad that Airflow launches: dispatched, followed and ended by the triggerer."""

"""What runs inside Airflow's own processes: migration, routing, secrets, log addresses."""

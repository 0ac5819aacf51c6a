"""The page `Delivery` in Airflow: what was pushed, what is live, and how the night went."""

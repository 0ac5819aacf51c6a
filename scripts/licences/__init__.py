"""The licences of every dependency: the table in docs, and what refuses one that is not open."""

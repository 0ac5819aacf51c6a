"""How the service listens: one process of a few threads, which wait for the warehouse at most."""

# One worker: the cache of results and the counts of logins are its own (superset_config.py).
workers = 1
worker_class = "gthread"
threads = 5
bind = "0.0.0.0:8088"
# Seconds; a query ends after 30 (the role's statement_timeout), a page after 60.
timeout = 90
graceful_timeout = 25  # Nomad kills after 30
keepalive = 5
# Slow or huge requests hold a thread; FAB's forms and Superset's layouts stay far below these.
limit_request_line = 8190
# In memory: a disk that is slow must not look like a worker that hangs.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - no file of ours
control_socket_disable = True
accesslog = None  # its lines hold the addresses of people
errorlog = "-"

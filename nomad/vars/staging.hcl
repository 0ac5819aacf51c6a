# Staging: the same jobs with its own prefix in Vault, its own databases and fewer of everything. A
# change is deployed here first. production.hcl says what each variable is.
environment = "staging"

airflow_image  = "registry.example.org/harmattan/airflow@sha256:0000000000000000000000000000000000000000000000000000000000000000"
backup_image   = "registry.example.org/harmattan/backup@sha256:0000000000000000000000000000000000000000000000000000000000000000"
ingest_image   = "registry.example.org/harmattan/ingest@sha256:0000000000000000000000000000000000000000000000000000000000000000"
redis_image    = "registry.example.org/harmattan/redis@sha256:0000000000000000000000000000000000000000000000000000000000000000"
superset_image = "registry.example.org/harmattan/dashboards@sha256:0000000000000000000000000000000000000000000000000000000000000000"

airflow_url           = "https://airflow.staging.example.org"
redis_address         = "node-1.staging.example.org:6379"
redis_results_address = "node-1.staging.example.org:6380"
dag_mirror_url        = "git://node-1.staging.example.org:9418"
vault_url             = "https://vault.staging.example.org:8200"
nomad_url             = "https://nomad.staging.example.org:4646"

worker_concurrency = 2

# A branch of the analysts' own, so that they can try what is not for production yet.
analysts_remote = "ssh://git@git.example.org/analytics/dags.git"
analysts_branch = "staging"

# The prefix keeps it apart in one bucket, and so do keys with that prefix; a bucket of its own is
# simpler to empty.
b2_bucket = "example-harmattan-backups-staging"

# Logs of tries are not worth a month of disk.
log_days = 7

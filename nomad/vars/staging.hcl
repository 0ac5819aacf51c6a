# Staging: the same jobs with its own prefix in Vault, its own databases and fewer of everything. A
# change is deployed here first. production.hcl says what each variable is.
environment = "staging"

# Beside production on the same cluster: namespaces, host volumes and ports of its own.
namespace       = "staging"
runs_namespace  = "staging-runs"
volume_prefix   = "staging-"
webserver_port  = 8081
superset_port   = 8089
log_server_port = 8794
dag_mirror_port = 9419

airflow_image = "registry.example.org/harmattan/airflow@sha256:0000000000000000000000000000000000000000000000000000000000000000"
backup_image  = "registry.example.org/harmattan/backup@sha256:0000000000000000000000000000000000000000000000000000000000000000"
container_images = {
  meltano = "registry.example.org/harmattan/meltano@sha256:0000000000000000000000000000000000000000000000000000000000000000"
}
ingest_image   = "registry.example.org/harmattan/ingest@sha256:0000000000000000000000000000000000000000000000000000000000000000"
redis_image    = "registry.example.org/harmattan/redis@sha256:0000000000000000000000000000000000000000000000000000000000000000"
superset_image = "registry.example.org/harmattan/dashboards@sha256:0000000000000000000000000000000000000000000000000000000000000000"

airflow_url           = "https://airflow.staging.example.org"
redis_address         = "node-1.example.org:6381"
redis_port            = 6381
redis_results_address = "node-1.example.org:6382"
redis_results_port    = 6382
dag_mirror_url        = "git://node-1.example.org:9419"
vault_url             = "https://vault.example.org:8200"
nomad_url             = "https://nomad.example.org:4646"

worker_concurrency = 2

# A branch of the analysts' own, so that they can try what is not for production yet.
analysts_remote = "ssh://git@git.example.org/analytics/dags.git"
analysts_branch = "staging"

# The prefix keeps it apart in one bucket, and so do keys with that prefix; a bucket of its own is
# simpler to empty.
b2_bucket = "example-harmattan-backups-staging"

# Logs of tries are not worth a month of disk.
log_days = 7

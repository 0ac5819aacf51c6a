# Production: every variable that the jobs have no default for, and those whose default is seldom
# right on a cluster. No secrets here. `make deploy VARS=nomad/vars/production.hcl` reads it; the
# values are examples, to be replaced in a copy of your own or here.

# The prefix of every path in Vault, and the first folder in the bucket.
environment = "production"

# Built from this repository, pushed to your registry and pinned by digest (docs/runbook.md), so that
# what runs is what was tested. No registry has these zeros: put your own digests here.
airflow_image = "registry.example.org/harmattan/airflow@sha256:0000000000000000000000000000000000000000000000000000000000000000"
backup_image  = "registry.example.org/harmattan/backup@sha256:0000000000000000000000000000000000000000000000000000000000000000"
container_images = {
  meltano = "registry.example.org/harmattan/meltano@sha256:0000000000000000000000000000000000000000000000000000000000000000"
}
ingest_image   = "registry.example.org/harmattan/ingest@sha256:0000000000000000000000000000000000000000000000000000000000000000"
redis_image    = "registry.example.org/harmattan/redis@sha256:0000000000000000000000000000000000000000000000000000000000000000"
superset_image = "registry.example.org/harmattan/dashboards@sha256:0000000000000000000000000000000000000000000000000000000000000000"

# What people type and workers call, without a slash at its end: a proxy with TLS before the port
# 8080 of the nodes that run airflow-webserver.
airflow_url     = "https://airflow.example.org"
webserver_count = 2
scheduler_count = 2

# With true Airflow's page Delivery shows how the pipelines went, too: with a login for ops in Vault at
# airflow/warehouse.
page_warehouse = false

# Superset stands at this port of the node that runs it: the proxy with TLS is told of it as well.
superset_port = 8088

# The nodes that have the host volume airflow-logs: those that run workers and triggerers.
log_server_count = 2

# Redis keeps nothing and runs on any node. Nomad says on which; these are asked for while it knows of
# none (docs/decisions/0053).
redis_address         = "node-1.example.org:6379"
redis_results_address = "node-1.example.org:6380"
redis_memory          = 256

# The node that has the host volume dag-mirror. Fixed, and not discovered (docs/decisions/0004), and
# without TLS: a name of the cluster's own network. A copy on a server of your own may have https and
# a login (docs/runbook.md, "TLS").
dag_mirror_url   = "git://node-1.example.org:9418"
dag_mirror_login = false

# Whose X-Forwarded-For and X-Forwarded-Proto are believed: the proxies, as the nodes see them.
proxy_addresses = "10.0.0.2"

# The cluster's own authorities, each as its file has it, if the certificates of your servers are not
# from a public one: <<-PEM … PEM. They are trusted besides the public ones.
ca_certificates = []

# With true Redis wants a certificate and its key in Vault at redis/tls.
redis_tls = false

# Where workers read connections at task run time; certificates as their image trusts them.
vault_url = "https://vault.example.org:8200"

# Of both, a snapshot is backed up every night.
nomad_url = "https://nomad.example.org:4646"

# Both queues get these: a variable is the same for every job that declares it.
worker_count       = 2
worker_concurrency = 4
worker_memory      = 1024 # MB: 300 at rest, 150 for each task at once, and some room

# Only ever pulled, with the deploy key that Vault holds; https:// with a token.
analysts_remote = "ssh://git@git.example.org/analytics/dags.git"
analysts_branch = "main"

# Where commits get a status: "github", "gitlab" or "gitea" (Forgejo's is the same), with the
# repository in its API and a token in Vault at delivery/forge. Such as
# "https://api.github.com/repos/OWNER/NAME", "https://HOST/api/v4/projects/ID" or
# "https://HOST/api/v1/repos/OWNER/NAME".
forge     = "none"
forge_url = "none"
# Whether the git server may call after a push, so that nobody waits for the next round.
push_hook = false
# Whether failed runs of the analysts' DAGs are posted, to the URL in Vault at airflow/alerts.
failure_webhook = false

# Authors of these domains get a mail when their push is refused, by the server in Vault at
# delivery/mail. Who an author is, a commit says: name no domain that is not your own.
author_mail_domains = []
# Whether refused pushes are posted to a chat, to the URL in Vault at delivery/chat.
refusal_chat = false

# Backblaze itself; another value is for an endpoint that speaks its API.
b2_realm  = "production"
b2_bucket = "example-harmattan-backups"

# The longest that a backup may take: beyond this it hangs, and would block the next night's.
backup_timeout = "4h"

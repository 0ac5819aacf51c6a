# One machine: everything stands at the Docker bridge. The images' tags come from the build
# (.local/images.hcl), so that what runs is what was built.
environment = "local"

airflow_url           = "http://172.17.0.1:8080"
webserver_port        = 8080
dag_mirror_url        = "git://172.17.0.1:15418"
dag_mirror_port       = 15418
redis_address         = "172.17.0.1:16379"
redis_port            = 16379
redis_results_address = "172.17.0.1:16380"
redis_results_port    = 16380
superset_port         = 8088
page_warehouse        = true
vault_url             = "http://172.17.0.1:8200"
nomad_url             = "http://172.17.0.1:4646"

# No proxy stands before it here, so its cookies must go through plain http.
superset_plain_http = true

# Two cores: few processes, and the start of a task is most of its work.
worker_concurrency = 2
worker_memory      = 1024

analysts_remote = "ssh://local@172.17.0.1:15022/var/lib/harmattan/git/analysts.git"
push_hook       = true
b2_realm        = "http://172.17.0.1:15080"
b2_bucket       = "harmattan-local"

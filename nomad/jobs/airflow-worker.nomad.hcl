# Celery workers, which run the analysts' Python: airflow-worker-analysts, and one job more for each
# further pool, say of heavy tasks or with other packages (docs/runbook.md, "Add a worker").

variable "datacenters" {
  type        = list(string)
  description = "Where the job may run."
  default     = ["*"]

  validation {
    condition     = length(var.datacenters) > 0
    error_message = "Name at least one datacenter."
  }
}

variable "namespace" {
  type        = string
  description = "Nomad's namespace of the platform's jobs."
  default     = "default"

  validation {
    condition     = regex_replace(var.namespace, "^[a-zA-Z0-9-]{1,128}$", "ok") == "ok"
    error_message = "A namespace is letters, digits and hyphens."
  }
}

variable "environment" {
  type        = string
  description = "The prefix of every path in Vault, such as production."

  validation {
    condition     = regex_replace(var.environment, "^[a-z][a-z0-9-]*$", "ok") == "ok"
    error_message = "The environment must be lower-case letters, digits and hyphens."
  }
}

variable "vault_mount" {
  type        = string
  description = "The KV v2 engine that holds the platform's secrets."
  default     = "secret"

  validation {
    condition     = regex_replace(var.vault_mount, "^[a-z][a-z0-9_/-]*[a-z0-9]$", "ok") == "ok"
    error_message = "A mount is lower-case letters, digits, underscores, hyphens and slashes, such as secret."
  }
}

variable "vault_login" {
  type        = string
  description = "Vault's mount of the login of this Nomad's tasks, as its agents name it."
  default     = "jwt-nomad"

  validation {
    condition     = regex_replace(var.vault_login, "^[a-z][a-z0-9_/-]*[a-z0-9]$", "ok") == "ok"
    error_message = "A mount is lower-case letters, digits, underscores, hyphens and slashes, such as secret."
  }
}

variable "airflow_image" {
  type        = string
  description = "The Airflow image, pinned by a content tag or a digest."

  validation {
    condition     = regex_replace(var.airflow_image, "^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$", "ok") == "ok" && regex_replace(var.airflow_image, ":latest$", "") == var.airflow_image
    error_message = "The image must be pinned by a tag other than latest, or by a digest."
  }
}

variable "airflow_url" {
  type        = string
  description = "Where people and workers reach the webserver, such as https://airflow.example.org"

  validation {
    condition     = regex_replace(var.airflow_url, "^(https?|git|ssh)://[^ ]+[^/ ]$", "ok") == "ok"
    error_message = "An address is a URL without a slash at its end."
  }
}

variable "dag_mirror_url" {
  type        = string
  description = "Where the job dag-mirror stands, such as git://10.0.0.5:9418"

  validation {
    condition     = regex_replace(var.dag_mirror_url, "^(https?|git|ssh)://[^ ]+[^/ ]$", "ok") == "ok"
    error_message = "An address is a URL without a slash at its end."
  }
}

variable "redis_address" {
  type        = string
  description = "HOST:PORT of the job redis, where Nomad knows of none."

  validation {
    condition     = regex_replace(var.redis_address, "^[^:/ ]+:[0-9]+$", "ok") == "ok"
    error_message = "The address of Redis is HOST:PORT."
  }
}

variable "redis_results_address" {
  type        = string
  description = "HOST:PORT of the results in the job redis, where Nomad knows of none."

  validation {
    condition     = regex_replace(var.redis_results_address, "^[^:/ ]+:[0-9]+$", "ok") == "ok"
    error_message = "The address of the results is HOST:PORT."
  }
}

variable "vault_url" {
  type        = string
  description = "Where workers reach Vault at task run time."

  validation {
    condition     = regex_replace(var.vault_url, "^(https?|git|ssh)://[^ ]+[^/ ]$", "ok") == "ok"
    error_message = "An address is a URL without a slash at its end."
  }
}

variable "queue" {
  type        = string
  description = "The queue that this job's workers serve: what a task names, or analysts."
  default     = "analysts"

  validation {
    condition     = regex_replace(var.queue, "^[a-z][a-z0-9]{0,29}$", "ok") == "ok"
    error_message = "A queue is lower-case letters and digits."
  }
}

variable "worker_count" {
  type        = number
  description = "How many workers of this queue."
  default     = 1

  validation {
    condition     = var.worker_count > 0
    error_message = "At least one worker is needed."
  }
}

variable "worker_concurrency" {
  type        = number
  description = "How many tasks a worker runs at once."
  default     = 4

  validation {
    condition     = var.worker_concurrency > 0
    error_message = "At least one task at a time is needed."
  }
}

variable "worker_memory" {
  type        = number
  description = "Memory of a worker in MB: 300 at rest, and 150 for each task at once."
  default     = 1024

  validation {
    condition     = var.worker_memory >= 512
    error_message = "A worker needs at least 512 MB."
  }
}

variable "worker_scratch" {
  type        = number
  description = "MB of /tmp, the one folder that tasks may write; held in memory, and freed with what is removed."
  default     = 1024

  validation {
    condition     = var.worker_scratch >= 64
    error_message = "A worker needs at least 64 MB of /tmp: the analysts' repository is there."
  }
}

variable "analysts_network" {
  type        = string
  description = "A Docker network of the node for what runs the analysts' code, whose egress the node bounds; Docker's own by default."
  default     = "bridge"

  validation {
    condition     = regex_replace(var.analysts_network, "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", "ok") == "ok" && var.analysts_network != "host"
    error_message = "Name a network that `docker network ls` shows; host would be no bound at all."
  }
}

variable "worker_kill_timeout" {
  type        = string
  description = "How long a stopped worker may finish its tasks; the client's max_kill_timeout caps it."
  default     = "10m"

  validation {
    condition     = regex_replace(var.worker_kill_timeout, "^[0-9]+[smh]$", "ok") == "ok"
    error_message = "A time is a number and its unit, such as 90s or 10m."
  }
}

variable "volume_prefix" {
  type        = string
  description = "What the names of host volumes begin with, such as staging-, or none."
  default     = "none"

  validation {
    condition     = regex_replace(var.volume_prefix, "^(none|[a-z][a-z0-9-]*-)$", "ok") == "ok"
    error_message = "A prefix is lower-case letters, digits and hyphens, with a hyphen at its end, or none."
  }
}

variable "ca_certificates" {
  type        = list(string)
  description = "The cluster's own certificate authorities, each in PEM: trusted besides the public ones."
  default     = []

  validation {
    condition     = length([for pem in var.ca_certificates : pem if regex_replace(pem, "(?s)^\\s*-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\\s*$", "ok") != "ok"]) == 0
    error_message = "An authority is a certificate in PEM, as its file has it."
  }
}

variable "redis_tls" {
  type        = bool
  description = "Whether Redis speaks TLS, with the certificate and key in Vault at redis/tls."
  default     = false

  validation {
    condition     = var.redis_tls == true || var.redis_tls == false
    error_message = "It is true or false."
  }
}

variable "dag_mirror_login" {
  type        = bool
  description = "Whether the mirror asks for a login: the user and token in Vault at delivery/mirror."
  default     = false

  validation {
    condition     = var.dag_mirror_login == true || var.dag_mirror_login == false
    error_message = "It is true or false."
  }
}

locals {
  volumes = var.volume_prefix == "none" ? "" : var.volume_prefix
  bundles = [{
    name      = "analysts"
    classpath = "airflow.providers.git.bundles.git.GitDagBundle"
    kwargs    = { repo_url = "${var.dag_mirror_url}/analysts.git", tracking_ref = "live", refresh_interval = 30 }
  }]
  secrets = "${var.vault_mount}/data/${var.environment}"

  redis         = var.redis_tls ? "rediss" : "redis"
  redis_options = var.redis_tls ? "?ssl_cert_reqs=required" : ""
}

job "airflow-worker" {
  id          = "airflow-worker-${var.queue}"
  name        = "airflow-worker-${var.queue}"
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "service"

  meta {
    ca_certificates = join("\n", var.ca_certificates) # frame.trust reads it in every task
  }

  update {
    max_parallel      = 1
    health_check      = "checks"
    min_healthy_time  = "10s"
    healthy_deadline  = "20m"  # includes the 15 minutes that a migration is waited for
    progress_deadline = "168h" # after it Nomad replaces nothing that fails: docs/decisions/0028
    auto_revert       = true
  }

  group "worker" {
    count = var.worker_count

    # A process that fails at once is tried again here, and from then on with growing pauses: the
    # cluster may come back in any order, so nothing gives up for good.
    restart {
      attempts = 3
      interval = "5m"
      delay    = "15s"
      mode     = "fail"
    }

    reschedule {
      delay          = "15s"
      delay_function = "exponential"
      max_delay      = "5m"
      unlimited      = true
    }

    network {
      port "health" {
        to = 8974
      }
    }

    # Task logs outlive the allocation; the job airflow-logs serves and grooms them.
    volume "logs" {
      type   = "host"
      source = "${local.volumes}airflow-logs"
    }

    service {
      name     = "airflow-worker-${var.queue}"
      provider = "nomad"
      port     = "health"

      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "5s"

        check_restart {
          limit = 6      # a minute without a sign from Celery's consumer
          grace = "300s" # a start takes minutes where the machine is busy
        }
      }
    }

    # Waits for the api-server, through which a task learns what to run.
    task "wait-for-webserver" {
      driver = "docker"
      user   = "50008:50000"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["python", "-m", "harmattan.wait", "${var.airflow_url}/api/v2/monitor/health"]
        cap_drop   = ["all"]
      }

      resources {
        cpu    = 50 # MHz: its share of a full node, no cap
        memory = 64 # the standard library only
      }
    }

    # No database, no JWT secret, no Fernet key: what a task needs it asks of the api-server with the
    # token that came with it, and connections of Vault.
    task "worker" {
      driver = "docker"
      # Root until frame.launcher has shut Nomad's folders. By number: for a user that the node does
      # not know by name Nomad writes the identity for all to read, and so for the worker.
      user = "0:0"
      # SIGTERM is Celery's warm shutdown: take nothing new, finish what runs.
      kill_signal  = "SIGTERM"
      kill_timeout = var.worker_kill_timeout

      vault {
        role         = "${var.environment}-airflow-worker-${var.queue}"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      # What VaultConnections logs in with; Nomad renews the file. Of an audience of its own: whoever
      # takes it gets the role of connections with it, and not the one of the templates above.
      identity {
        name = "connections"
        aud  = ["connections.vault.io"]
        file = true
        ttl  = "1h"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/broker_url"
        data                 = "${local.redis}://worker-${var.queue}:{{ with secret \"${local.secrets}/redis/worker-${var.queue}\" }}{{ .Data.data.password | urlquery }}{{ end }}@{{ with nomadService \"redis\" }}{{ with index . 0 }}{{ .Address }}:{{ .Port }}{{ end }}{{ else }}${var.redis_address}{{ end }}/0${local.redis_options}"
        uid                  = 50008
        gid                  = 50008
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/results_url"
        data                 = "${local.redis}://worker-${var.queue}:{{ with secret \"${local.secrets}/redis/worker-${var.queue}\" }}{{ .Data.data.password | urlquery }}{{ end }}@{{ with nomadService \"redis-results\" }}{{ with index . 0 }}{{ .Address }}:{{ .Port }}{{ end }}{{ else }}${var.redis_results_address}{{ end }}/0${local.redis_options}"
        uid                  = 50008
        gid                  = 50008
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      # git's configuration, with the header that logs in at the mirror and nowhere else.
      dynamic "template" {
        for_each = var.dag_mirror_login ? [var.dag_mirror_url] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/git_config"
          data                 = "[http \"${template.value}/\"]\nextraHeader = Authorization: Basic {{ with secret \"${local.secrets}/delivery/mirror\" }}{{ printf \"%s:%s\" .Data.data.username .Data.data.token | base64Encode }}{{ end }}\n"
          uid                  = 50008
          gid                  = 50008
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
        }
      }

      env {
        AIRFLOW__CELERY__BROKER_URL_CMD                 = "cat /secrets/broker_url"
        AIRFLOW__CELERY__RESULT_BACKEND_CMD             = "cat /secrets/results_url"
        AIRFLOW__CORE__EXECUTION_API_SERVER_URL         = "${var.airflow_url}/execution/"
        AIRFLOW__API__BASE_URL                          = var.airflow_url # links in alerts
        AIRFLOW__CORE__HOSTNAME_CALLABLE                = "harmattan.address.node"
        GIT_CONFIG_GLOBAL                               = var.dag_mirror_login ? "/secrets/git_config" : "/dev/null"
        HARMATTAN_NODE                                  = "${attr.unique.network.ip-address}"
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST  = jsonencode(local.bundles)
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH = "/tmp/bundles"
        AIRFLOW__WORKERS__SECRETS_BACKEND               = "harmattan.vault_connections.VaultConnections"
        AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS = jsonencode({
          url              = var.vault_url
          auth_type        = "jwt"
          auth_mount_point = var.vault_login
          jwt_role         = "${var.environment}-airflow-worker-${var.queue}-connections"
          jwt_token_path   = "/secrets/nomad_connections.jwt"
          mount_point      = var.vault_mount
          connections_path = "${var.environment}/connections/analysts"
          variables_path   = null
          config_path      = null
        })
      }

      config {
        image      = var.airflow_image
        force_pull = false
        entrypoint = [
          "python", "-m", "frame.launcher", "--stranger=50008",
          "--user=50008:50000", "--pass=/secrets", "tini", "--",
        ]
        args = [
          "python", "-m", "harmattan.health", "8974", "file:/tmp/worker-heartbeat",
          "python", "-m", "harmattan.worker", "/tmp/worker-heartbeat",
          var.queue, "--concurrency", "${var.worker_concurrency}",
        ]
        ports        = ["health"]
        cap_drop     = ["all"]
        cap_add      = ["fowner", "setuid", "setgid"]
        security_opt = ["no-new-privileges"]
        network_mode = var.analysts_network
        # A task that takes processes, disk or descriptors without end stops itself, and not the node.
        pids_limit      = 512
        readonly_rootfs = true

        ulimit {
          nofile = "4096"
        }

        mount {
          type   = "tmpfs"
          target = "/tmp"

          tmpfs_options {
            size = var.worker_scratch * 1048576 # bytes
          }
        }
      }

      volume_mount {
        volume      = "logs"
        destination = "/var/log/airflow"
      }

      resources {
        cpu        = 500                                        # MHz: its share of a full node, no cap
        memory     = var.worker_memory                          # 300 MB at rest, and its tasks
        memory_max = var.worker_memory * 2 + var.worker_scratch # one task that takes more than its share
      }
    }
  }
}

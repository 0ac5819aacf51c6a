# Airflow's scheduler: decides what runs and hands it to the workers' queues.

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

variable "scheduler_count" {
  type        = number
  description = "How many schedulers; two or more share the work and stand in for each other."
  default     = 1

  validation {
    condition     = var.scheduler_count > 0
    error_message = "At least one scheduler is needed."
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

variable "failure_webhook" {
  type        = bool
  description = "Whether failed runs of analysts' DAGs are posted: to the URL in Vault at airflow/alerts."
  default     = false

  validation {
    condition     = var.failure_webhook == true || var.failure_webhook == false
    error_message = "It is true or false."
  }
}

locals {
  secrets = "${var.vault_mount}/data/${var.environment}"

  redis         = var.redis_tls ? "rediss" : "redis"
  redis_options = var.redis_tls ? "?ssl_cert_reqs=required" : ""
}

job "airflow-scheduler" {
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

  group "scheduler" {
    count = var.scheduler_count

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

    service {
      name     = "airflow-scheduler"
      provider = "nomad"
      port     = "health"

      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "5s"

        check_restart {
          limit = 6      # a minute of a stale heartbeat
          grace = "300s" # a start takes minutes where the machine is busy
        }
      }
    }

    # Waits for the migration, never migrates: only airflow-migrate may change the schema.
    task "wait-for-migration" {
      driver = "docker"
      user   = "50000:50000"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      vault {
        role         = "${var.environment}-airflow-scheduler"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/database_uri"
        data                 = "{{ with secret \"${local.secrets}/airflow/database/scheduler\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["python", "-m", "harmattan.schema", "/secrets/database_uri"]
        cap_drop   = ["all"]
      }

      resources {
        cpu    = 100 # MHz: its share of a full node, no cap
        memory = 128 # it asks the database, without Airflow
      }
    }

    task "scheduler" {
      driver       = "docker"
      user         = "50000:50000"
      kill_timeout = "60s" # it gives its runs up for another scheduler to adopt

      vault {
        role         = "${var.environment}-airflow-scheduler"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/database_uri"
        data                 = "{{ with secret \"${local.secrets}/airflow/database/scheduler\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/fernet_key"
        data                 = "{{ with secret \"${local.secrets}/airflow/fernet\" }}{{ .Data.data.key }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/jwt_secret"
        data                 = "{{ with secret \"${local.secrets}/airflow/jwt\" }}{{ .Data.data.secret }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/broker_url"
        data                 = "${local.redis}://scheduler:{{ with secret \"${local.secrets}/redis/scheduler\" }}{{ .Data.data.password | urlquery }}{{ end }}@{{ with nomadService \"redis\" }}{{ with index . 0 }}{{ .Address }}:{{ .Port }}{{ end }}{{ else }}${var.redis_address}{{ end }}/0${local.redis_options}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/results_url"
        data                 = "${local.redis}://scheduler:{{ with secret \"${local.secrets}/redis/scheduler\" }}{{ .Data.data.password | urlquery }}{{ end }}@{{ with nomadService \"redis-results\" }}{{ with index . 0 }}{{ .Address }}:{{ .Port }}{{ end }}{{ else }}${var.redis_results_address}{{ end }}/0${local.redis_options}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      dynamic "template" {
        for_each = var.failure_webhook ? ["airflow/alerts"] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/failure_webhook"
          data                 = "{{ with secret \"${local.secrets}/${template.value}\" }}{{ .Data.data.webhook }}{{ end }}"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop" # it is read for each post
        }
      }

      env {
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD = "cat /secrets/database_uri"
        AIRFLOW__CORE__FERNET_KEY_CMD           = "cat /secrets/fernet_key"
        AIRFLOW__API_AUTH__JWT_SECRET_CMD       = "cat /secrets/jwt_secret"
        AIRFLOW__CELERY__BROKER_URL_CMD         = "cat /secrets/broker_url"
        AIRFLOW__CELERY__RESULT_BACKEND_CMD     = "cat /secrets/results_url"
        AIRFLOW__CORE__EXECUTION_API_SERVER_URL = "${var.airflow_url}/execution/"
        # Where a failed run is posted, and where its log is read: harmattan.run_alerts.
        FAILURE_WEBHOOK_FILE   = var.failure_webhook ? "/secrets/failure_webhook" : ""
        AIRFLOW__API__BASE_URL = var.airflow_url
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["python", "-m", "harmattan.scheduler"]
        ports      = ["health"]
        cap_drop   = ["all"]
      }

      resources {
        cpu        = 300 # MHz: its share of a full node, no cap
        memory     = 512 # 245 MB at rest
        memory_max = 1024
      }
    }
  }
}

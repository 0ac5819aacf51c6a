# Task logs, one server on each node that has the volume: served to the UI, and deleted when they are
# old. A service, as Nomad brings no system job back that a driver failed (docs/decisions/0028).
# Apart from the workers, so that a log can be read after its worker is gone, and so that no worker
# holds the key that signs the requests.

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

variable "log_days" {
  type        = number
  description = "How many days a log is kept."
  default     = 30

  validation {
    condition     = var.log_days > 0
    error_message = "Logs are kept for at least a day."
  }
}

variable "log_server_count" {
  type        = number
  description = "How many nodes have the volume airflow-logs: each gets one log server."
  default     = 1

  validation {
    condition     = var.log_server_count > 0
    error_message = "At least one node has the volume of the logs."
  }
}

variable "log_server_port" {
  type        = number
  description = "The port of the log servers, the same on every node."
  default     = 8793

  validation {
    condition     = var.log_server_port > 0 && var.log_server_port < 65536
    error_message = "A port is a number from 1 to 65535."
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

locals {
  volumes = var.volume_prefix == "none" ? "" : var.volume_prefix
  secrets = "${var.vault_mount}/data/${var.environment}"
}

job "airflow-logs" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "service"

  update {
    max_parallel      = 1
    health_check      = "checks"
    min_healthy_time  = "10s"
    healthy_deadline  = "2m"
    progress_deadline = "168h" # after it Nomad replaces nothing that fails: docs/decisions/0028
    auto_revert       = true
  }

  group "logs" {
    count = var.log_server_count

    # Never two on one node: they would fight for the port, and another node would have none.
    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

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
      port "http" {
        static = var.log_server_port # the web server knows one port for all nodes
        to     = 8793                # airflow.cfg
      }
    }

    # What workers wrote, strangers' tasks among them.
    volume "logs" {
      type   = "host"
      source = "${local.volumes}airflow-logs"
    }

    # What triggerers wrote, and nobody else can.
    volume "trigger-logs" {
      type   = "host"
      source = "${local.volumes}airflow-trigger-logs"
    }

    service {
      name     = "airflow-logs"
      provider = "nomad"
      port     = "http"

      check {
        type     = "tcp"
        interval = "10s"
        timeout  = "2s"

        check_restart {
          limit = 6 # a minute of silence
          grace = "60s"
        }
      }
    }

    task "serve" {
      driver = "docker"
      user   = "50000:50000"

      vault {
        role         = "${var.environment}-airflow-logs"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/api_secret_key"
        data                 = "{{ with secret \"${local.secrets}/airflow/api\" }}{{ .Data.data.secret_key }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      env {
        AIRFLOW__API__SECRET_KEY_CMD = "cat /secrets/api_secret_key"
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["python", "-m", "harmattan.log_server", "/var/log/airflow-triggers"]
        ports      = ["http"]
        cap_drop   = ["all"]
      }

      volume_mount {
        volume      = "logs"
        destination = "/var/log/airflow"
        read_only   = true
      }

      volume_mount {
        volume      = "trigger-logs"
        destination = "/var/log/airflow-triggers"
        read_only   = true
      }

      resources {
        cpu        = 50  # MHz: its share of a full node, no cap
        memory     = 192 # 100 MB seen: Airflow's settings and a small web server
        memory_max = 384
      }
    }

    # Each user removes what is its own.
    dynamic "task" {
      for_each = {
        groom          = { user = 50008, volume = "logs" }
        groom-triggers = { user = 50000, volume = "trigger-logs" }
      }
      labels = [task.key]

      content {
        driver = "docker"
        user   = "${task.value.user}:50000"

        config {
          image      = var.airflow_image
          force_pull = false
          args       = ["python", "-m", "harmattan.groom", "/var/log/airflow", "${var.log_days}"]
          cap_drop   = ["all"]
        }

        volume_mount {
          volume      = task.value.volume
          destination = "/var/log/airflow"
        }

        resources {
          cpu    = 50 # MHz: its share of a full node, no cap
          memory = 64 # the standard library only
        }
      }
    }
  }
}

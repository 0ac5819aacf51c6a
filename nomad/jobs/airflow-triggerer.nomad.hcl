# Airflow's triggerer: waits on behalf of deferred tasks, thousands in one process.

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

variable "nomad_url" {
  type        = string
  description = "Nomad's address: where a snapshot is asked for, and where the pipelines' triggers launch runs."

  validation {
    condition     = regex_replace(var.nomad_url, "^(https?|git|ssh)://[^ ]+[^/ ]$", "ok") == "ok"
    error_message = "An address is a URL without a slash at its end."
  }
}

variable "runs_namespace" {
  type        = string
  description = "Nomad's namespace of the jobs that Airflow may launch."
  default     = "runs"

  validation {
    condition     = regex_replace(var.runs_namespace, "^[a-zA-Z0-9-]{1,128}$", "ok") == "ok"
    error_message = "A namespace is letters, digits and hyphens."
  }
}

variable "analysts_python" {
  type        = bool
  description = "Whether analysts' Python runs: without it there is no worker, and neither DAGs nor triggers of theirs are read."
  default     = true

  validation {
    condition     = var.analysts_python == true || var.analysts_python == false
    error_message = "It is true or false."
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

locals {
  volumes = var.volume_prefix == "none" ? "" : var.volume_prefix
  # What only the pipelines' triggerer has: a connection to Nomad, for the namespace of runs alone
  # (nomad/acl/runs.policy.hcl).
  launcher = {
    AIRFLOW__SECRETS__BACKEND = "harmattan.runs.connection.NomadConnection"
    AIRFLOW__SECRETS__BACKEND_KWARGS = jsonencode({
      address    = var.nomad_url
      namespace  = var.runs_namespace
      token_file = "/secrets/nomad_runs.jwt"
    })
  }

  secrets = "${var.vault_mount}/data/${var.environment}"
}

job "airflow-triggerer" {
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

  # A triggerer for the pipelines' tasks, and one for strangers': whatever a trigger of theirs does to
  # its own triggerer, it neither stops the pipelines' nor speaks for them.
  dynamic "group" {
    for_each = concat(["pipelines"], var.analysts_python ? ["analysts"] : [])
    labels   = ["triggerer-${group.value}"]

    content {
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
        source = "${local.volumes}airflow-trigger-logs"
      }

      service {
        name     = "airflow-triggerer-${group.value}"
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
          role         = "${var.environment}-airflow-triggerer"
          env          = false
          disable_file = true
          change_mode  = "noop" # a new token brings the same secrets
        }

        template {
          destination          = "${NOMAD_SECRETS_DIR}/database_uri"
          data                 = "{{ with secret \"${local.secrets}/airflow/database/triggerer\" }}{{ .Data.data.uri }}{{ end }}"
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

      task "triggerer" {
        driver = "docker"
        # Root until frame.launcher has shut Nomad's folders. By number: for a user that the node does
        # not know by name Nomad writes the identity for all to read, and so for the triggerer.
        user         = "0:0"
        kill_timeout = "30s" # its triggers are taken up by the next triggerer

        vault {
          role         = "${var.environment}-airflow-triggerer"
          env          = false
          disable_file = true
          change_mode  = "noop" # a new token brings the same secrets
        }

        template {
          destination          = "${NOMAD_SECRETS_DIR}/database_uri"
          data                 = "{{ with secret \"${local.secrets}/airflow/database/triggerer\" }}{{ .Data.data.uri }}{{ end }}"
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

        dynamic "identity" {
          for_each = group.value == "pipelines" ? ["runs"] : []

          content {
            name = identity.value
            aud  = ["nomadproject.io"]
            file = true
            ttl  = "1h"
          }
        }

        env = merge(group.value == "pipelines" ? local.launcher : {}, {
          AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD = "cat /secrets/database_uri"
          AIRFLOW__CORE__FERNET_KEY_CMD           = "cat /secrets/fernet_key"
          AIRFLOW__CORE__HOSTNAME_CALLABLE        = "harmattan.address.node"
          AIRFLOW__API__BASE_URL                  = var.airflow_url # links in alerts
          HARMATTAN_NODE                          = "${attr.unique.network.ip-address}"
        })

        config {
          image      = var.airflow_image
          force_pull = false
          entrypoint = [
            "python", "-m", "frame.launcher", "--stranger=50009",
            "--user=50000:50000", "--keep=setuid,setgid,kill", "tini", "--",
          ]
          args = [
            "python", "-m", "harmattan.health", "8974", "file:/tmp/triggerer-heartbeat",
            "python", "-m", "harmattan.triggerer", group.value, "/tmp/triggerer-heartbeat",
          ]
          ports        = ["health"]
          cap_drop     = ["all"]
          cap_add      = ["fowner", "setuid", "setgid", "kill"]
          security_opt = ["no-new-privileges"]
          network_mode = group.value == "analysts" ? var.analysts_network : "bridge"
          # A trigger that takes processes, disk or descriptors without end stops itself, and not the node.
          pids_limit      = 512
          readonly_rootfs = true

          ulimit {
            nofile = "4096"
          }

          mount {
            type   = "tmpfs"
            target = "/tmp"

            tmpfs_options {
              size = 67108864 # 64 MiB, in bytes
            }
          }
        }

        volume_mount {
          volume      = "logs"
          destination = "/var/log/airflow"
        }

        resources {
          cpu        = 200 # MHz: its share of a full node, no cap
          memory     = 384 # 270 MB at rest: the triggerer, the one that runs the triggers, the health check
          memory_max = 832
        }
      }
    }
  }
}

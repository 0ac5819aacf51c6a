# Airflow's DAG processor, one job a bundle: airflow-dag-processor-pipelines reads what the platform
# makes of the analysts' YAML, airflow-dag-processor-analysts their Python.

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

variable "dag_mirror_url" {
  type        = string
  description = "Where the job dag-mirror stands, such as git://10.0.0.5:9418"

  validation {
    condition     = regex_replace(var.dag_mirror_url, "^(https?|git|ssh)://[^ ]+[^/ ]$", "ok") == "ok"
    error_message = "An address is a URL without a slash at its end."
  }
}

variable "bundle" {
  type        = string
  description = "The bundle that this job parses."

  validation {
    condition     = contains(["pipelines", "analysts"], var.bundle)
    error_message = "The bundle is pipelines or analysts."
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

variable "ca_certificates" {
  type        = list(string)
  description = "The cluster's own certificate authorities, each in PEM: trusted besides the public ones."
  default     = []

  validation {
    condition     = length([for pem in var.ca_certificates : pem if regex_replace(pem, "(?s)^\\s*-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\\s*$", "ok") != "ok"]) == 0
    error_message = "An authority is a certificate in PEM, as its file has it."
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
  secrets = "${var.vault_mount}/data/${var.environment}"
  bundles = [
    for name in ["pipelines", "analysts"] : {
      name      = name
      classpath = "airflow.providers.git.bundles.git.GitDagBundle"
      kwargs    = { repo_url = "${var.dag_mirror_url}/${name}.git", tracking_ref = "live", refresh_interval = 5 }
    }
  ]
}

job "airflow-dag-processor" {
  id          = "airflow-dag-processor-${var.bundle}"
  name        = "airflow-dag-processor-${var.bundle}"
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

  group "dag-processor" {
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
      name     = "airflow-dag-processor-${var.bundle}"
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
        role         = "${var.environment}-airflow-dag-processor-${var.bundle}"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/database_uri"
        data                 = "{{ with secret \"${local.secrets}/airflow/database/dag-processor\" }}{{ .Data.data.uri }}{{ end }}"
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

    # Begins as root: frame.launcher shuts Nomad's folders to strangers. The processor keeps three
    # capabilities, so that its children run as another user (harmattan.strangers).
    task "dag-processor" {
      driver       = "docker"
      user         = "root"
      kill_timeout = "30s"

      vault {
        role         = "${var.environment}-airflow-dag-processor-${var.bundle}"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/database_uri"
        data                 = "{{ with secret \"${local.secrets}/airflow/database/dag-processor\" }}{{ .Data.data.uri }}{{ end }}"
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

      # git's configuration, with the header that logs in at the mirror and nowhere else.
      dynamic "template" {
        for_each = var.dag_mirror_login ? [var.dag_mirror_url] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/git_config"
          data                 = "[http \"${template.value}/\"]\nextraHeader = Authorization: Basic {{ with secret \"${local.secrets}/delivery/mirror\" }}{{ printf \"%s:%s\" .Data.data.username .Data.data.token | base64Encode }}{{ end }}\n"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
        }
      }

      env {
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD         = "cat /secrets/database_uri"
        AIRFLOW__CORE__FERNET_KEY_CMD                   = "cat /secrets/fernet_key"
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST  = jsonencode(local.bundles)
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH = "/tmp/bundles"
        DAG_ENVIRONMENT                                 = var.environment # what the analysts' environments.toml may switch off
        GIT_CONFIG_GLOBAL                               = var.dag_mirror_login ? "/secrets/git_config" : "/dev/null"
      }

      config {
        image      = var.airflow_image
        force_pull = false
        entrypoint = [
          "python", "-m", "frame.launcher", "--stranger=50009", "--stranger=50010",
          "--user=50000:50000", "--keep=setuid,setgid,kill", "tini", "--",
        ]
        args = [
          "python", "-m", "harmattan.health", "8974", "job:DagProcessorJob:/secrets/database_uri",
          "python", "-m", "harmattan.dag_processor", "--bundle-name", var.bundle,
        ]
        ports        = ["health"]
        cap_drop     = ["all"]
        cap_add      = ["fowner", "setuid", "setgid", "kill"]
        security_opt = ["no-new-privileges"]
        network_mode = var.bundle == "analysts" ? var.analysts_network : "bridge"
        # A parse that takes processes, disk or descriptors without end stops itself, and not the node.
        pids_limit      = 512
        readonly_rootfs = true

        ulimit {
          nofile = "4096"
        }

        mount {
          type   = "tmpfs"
          target = "/tmp"

          tmpfs_options {
            size = 268435456 # 256 MiB, in bytes: the bundle's repository
          }
        }
      }

      resources {
        cpu        = 300 # MHz: its share of a full node, no cap
        memory     = 512 # 320 MB at rest: the manager, and the process that parses are forked from
        memory_max = 1280
      }
    }
  }
}

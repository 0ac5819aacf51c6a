# Once a night: what is older than `metadata_days` leaves Airflow's database, which would grow without
# end. It works in short transactions, beside everything that runs.

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

variable "metadata_days" {
  type        = number
  description = "How long Airflow's database keeps runs, task instances, XComs, events and its audit log, in days."
  default     = 90

  validation {
    condition     = var.metadata_days >= 7
    error_message = "Airflow's database keeps at least a week."
  }
}

variable "clean_schedule" {
  type        = string
  description = "When old rows are deleted: cron, UTC."
  default     = "40 3 * * *"

  validation {
    condition     = regex_replace(var.clean_schedule, "^([0-9*,/-]+ ){4}[0-9*,/-]+$", "ok") == "ok"
    error_message = "A schedule is five cron fields, such as 40 3 * * *."
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
  secrets = "${var.vault_mount}/data/${var.environment}"
}

job "airflow-clean" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "batch"

  meta {
    ca_certificates = join("\n", var.ca_certificates) # frame.trust reads it in every task
  }

  periodic {
    crons            = [var.clean_schedule]
    time_zone        = "UTC"
    prohibit_overlap = true
  }

  group "airflow-clean" {
    # A database or a lock that was away for a moment gets another chance; then it is tomorrow's.
    restart {
      attempts = 1
      interval = "24h" # longer than any run, or its tries would be counted from 0 again
      delay    = "5m"
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "clean" {
      driver       = "docker"
      user         = "50000:50000"
      kill_timeout = "30s" # its batch is rolled back, or gone; what it put aside goes with the next run

      vault {
        role         = "${var.environment}-airflow-clean"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/database_uri"
        data                 = "{{ with secret \"${local.secrets}/airflow/database/clean\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      env {
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD = "cat /secrets/database_uri"
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["python", "-m", "harmattan.clean", var.metadata_days]
        cap_drop   = ["all"]
      }

      resources {
        cpu        = 200 # MHz: the database does the work
        memory     = 384 # Airflow's models
        memory_max = 768
      }
    }
  }
}

# Superset's database: brought to the image's version once, with its roles, its first administrator
# and its connection to the warehouse, before anything else of it runs. Batch: run it again with each
# new image, and when the address of the warehouse changed.

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

variable "superset_image" {
  type        = string
  description = "The Superset image, pinned by a content tag or a digest."

  validation {
    condition     = regex_replace(var.superset_image, "^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$", "ok") == "ok" && regex_replace(var.superset_image, ":latest$", "") == var.superset_image
    error_message = "The image must be pinned by a tag other than latest, or by a digest."
  }
}

variable "superset_database_role" {
  type        = string
  description = "The role of the job superset in Superset's database, the one that may write accounts."
  default     = "superset_web"

  validation {
    condition     = regex_replace(var.superset_database_role, "^[A-Za-z_][A-Za-z0-9_-]{0,62}$", "ok") == "ok"
    error_message = "A role is letters, digits, underscores and hyphens."
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

job "superset-migrate" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "batch"

  meta {
    ca_certificates = join("\n", var.ca_certificates) # frame.trust reads it in every task
  }

  group "migrate" {
    restart {
      attempts = 3 # a database that is not there yet is waited for inside
      interval = "30m"
      delay    = "15s"
      mode     = "fail"
    }

    # Superset waits for it, so it gives up no more than that does. Each try starts from the last
    # revision that was committed, and looks only once there is nothing left to do.
    reschedule {
      attempts       = 0 # what `unlimited` asks for in a batch job
      delay          = "15s"
      delay_function = "exponential"
      max_delay      = "5m"
      unlimited      = true
    }

    task "migrate" {
      driver       = "docker"
      user         = "50005:50005"
      kill_timeout = "5m" # a migration that is killed half-way needs a person

      vault {
        role         = "${var.environment}-superset-migrate"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/metadata_uri"
        data                 = "{{ with secret \"${local.secrets}/superset/database/migrate\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/secret_key"
        data                 = "{{ with secret \"${local.secrets}/superset/secret-key\" }}{{ .Data.data.key }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/warehouse_uri"
        data                 = "{{ with secret \"${local.secrets}/superset/warehouse\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/admin.json"
        data                 = "{{ with secret \"${local.secrets}/superset/admin\" }}{{ .Data.data | toJSON }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/oidc.json"
        data                 = "{{ with secret \"${local.secrets}/superset/oidc\" }}{{ .Data.data | toJSON }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      env {
        DASHBOARDS_WEB_ROLE           = var.superset_database_role
        DASHBOARDS_METADATA_URI_FILE  = "/secrets/metadata_uri"
        DASHBOARDS_SECRET_KEY_FILE    = "/secrets/secret_key"
        DASHBOARDS_WAREHOUSE_URI_FILE = "/secrets/warehouse_uri"
        DASHBOARDS_ADMIN_FILE         = "/secrets/admin.json"
        DASHBOARDS_OIDC_FILE          = "/secrets/oidc.json"
      }

      config {
        image      = var.superset_image
        force_pull = false
        args       = ["python", "-m", "dashboards", "migrate"]
        cap_drop   = ["all"]
      }

      resources {
        cpu        = 500 # MHz: its share of a full node, no cap
        memory     = 512 # 300 MB for Superset's application, and the migrations' models
        memory_max = 1024
      }
    }
  }
}

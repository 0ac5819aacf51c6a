# Brings the analysts' dashboards in from their live commit: looks every five minutes, and starts
# Superset only when that moved. What somebody changed by hand stays, and the job fails and says so.

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

variable "dag_mirror_url" {
  type        = string
  description = "Where the job dag-mirror stands, such as git://10.0.0.5:9418"

  validation {
    condition     = regex_replace(var.dag_mirror_url, "^(https?|git|ssh)://[^ ]+[^/ ]$", "ok") == "ok"
    error_message = "An address is a URL without a slash at its end."
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
}

job "superset-dashboards" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "batch"

  meta {
    ca_certificates = join("\n", var.ca_certificates) # frame.trust reads it in every task
  }

  periodic {
    crons            = ["*/5 * * * *"]
    time_zone        = "UTC"
    prohibit_overlap = true
  }

  group "deliver" {
    # The next round tries again.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "deliver" {
      driver       = "docker"
      user         = "50005:50005"
      kill_timeout = "30s" # an import is one transaction

      vault {
        role         = "${var.environment}-superset-dashboards"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/metadata_uri"
        data                 = "{{ with secret \"${local.secrets}/superset/database/dashboards\" }}{{ .Data.data.uri }}{{ end }}"
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

      # git's configuration, with the header that logs in at the mirror and nowhere else.
      dynamic "template" {
        for_each = var.dag_mirror_login ? [var.dag_mirror_url] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/git_config"
          data                 = "[http \"${template.value}/\"]\nextraHeader = Authorization: Basic {{ with secret \"${local.secrets}/delivery/mirror\" }}{{ printf \"%s:%s\" .Data.data.username .Data.data.token | base64Encode }}{{ end }}\n"
          uid                  = 50005
          gid                  = 50005
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
        }
      }

      env {
        DASHBOARDS_METADATA_URI_FILE  = "/secrets/metadata_uri"
        DASHBOARDS_SECRET_KEY_FILE    = "/secrets/secret_key"
        DASHBOARDS_WAREHOUSE_URI_FILE = "/secrets/warehouse_uri"
        DASHBOARDS_MIRROR             = var.dag_mirror_url
        DASHBOARDS_GIT_CONFIG         = var.dag_mirror_login ? "/secrets/git_config" : ""
      }

      config {
        image      = var.superset_image
        force_pull = false
        args       = ["python", "-m", "dashboards", "deliver"]
        cap_drop   = ["all"]
      }

      resources {
        cpu        = 100 # MHz: its share of a full node, no cap
        memory     = 384 # 40 MB to look; 300 with Superset's application, to import
        memory_max = 768
      }
    }
  }
}

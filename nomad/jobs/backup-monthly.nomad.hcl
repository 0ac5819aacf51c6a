# Once a calendar month: the newest backup of everything is copied, inside the bucket, to where it is
# kept for thirteen months. Daily, so that a month whose first day failed still gets its copy.

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

variable "backup_image" {
  type        = string
  description = "The backup image, pinned by a content tag or a digest."

  validation {
    condition     = regex_replace(var.backup_image, "^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$", "ok") == "ok" && regex_replace(var.backup_image, ":latest$", "") == var.backup_image
    error_message = "The image must be pinned by a tag other than latest, or by a digest."
  }
}

variable "b2_realm" {
  type        = string
  description = "Backblaze's realm: production, or the URL of an endpoint."
  default     = "production"

  validation {
    condition     = regex_replace(var.b2_realm, "^(production|https?://[^ ]+)$", "ok") == "ok"
    error_message = "The realm is production or a URL."
  }
}

variable "b2_bucket" {
  type        = string
  description = "The bucket of all backups."

  validation {
    condition     = regex_replace(var.b2_bucket, "^[a-zA-Z0-9-]{6,63}$", "ok") == "ok"
    error_message = "A bucket's name is 6 to 63 letters, digits and hyphens."
  }
}

variable "monthly_schedule" {
  type        = string
  description = "When it runs: cron, UTC."
  default     = "30 7 * * *"

  validation {
    condition     = regex_replace(var.monthly_schedule, "^([0-9*,/-]+ ){4}[0-9*,/-]+$", "ok") == "ok"
    error_message = "A schedule is five cron fields, such as 30 7 * * *."
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

job "backup-monthly" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "batch"

  meta {
    ca_certificates = join("\n", var.ca_certificates) # frame.trust reads it in every task
  }

  periodic {
    crons            = [var.monthly_schedule]
    time_zone        = "UTC"
    prohibit_overlap = true
  }

  group "backup-monthly" {
    # B2 that was away for a moment gets two more chances; then it is tomorrow's.
    restart {
      attempts = 2
      interval = "24h" # longer than any run, or its tries would be counted from 0 again
      delay    = "5m"
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "copy" {
      driver       = "docker"
      user         = "50001:50001"
      kill_timeout = "90s" # cancelling an unfinished copy and all other clean-up is bounded at 30 s

      vault {
        role         = "${var.environment}-backup-monthly"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/b2.json"
        data                 = "{{ with secret \"${local.secrets}/backup/b2/copier\" }}{{ .Data.data | toJSON }}{{ end }}"
        uid                  = 50001
        gid                  = 50001
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/manifest_key.asc"
        data                 = "{{ with secret \"${local.secrets}/backup/manifest-key\" }}{{ .Data.data.armor }}{{ end }}"
        uid                  = 50001
        gid                  = 50001
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/signers.json"
        data                 = "{{ with secret \"${local.secrets}/backup/signers\" }}{{ .Data.data | toJSON }}{{ end }}"
        uid                  = 50001
        gid                  = 50001
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/alerts.json"
        data                 = "{{ with secret \"${local.secrets}/backup/alerts\" }}{{ .Data.data | toJSON }}{{ end }}"
        uid                  = 50001
        gid                  = 50001
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      env {
        BACKUP_SECRETS_DIR = "/secrets"
        BACKUP_B2_REALM    = var.b2_realm
        BACKUP_BUCKET      = var.b2_bucket
        BACKUP_PREFIX      = var.environment
      }

      config {
        image      = var.backup_image
        force_pull = false
        args       = ["monthly"]
        cap_drop   = ["all"]

        # Keyrings, private keys among them, are in memory and nowhere else.
        mount {
          type   = "tmpfs"
          target = "/tmp"

          tmpfs_options {
            size = 16777216 # 16 MiB, in bytes
          }
        }
      }

      resources {
        cpu    = 100 # MHz: B2 does the copying
        memory = 192 # Python, and the lists
      }
    }
  }
}

# Every day: whether each database of every server is backed up, lately, and proved to restore. What is
# not goes to the webhook, and the launch fails. `nomad job periodic force backup-coverage` asks now.

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

variable "coverage_schedule" {
  type        = string
  description = "When it runs: cron, UTC."
  default     = "0 7 * * *"

  validation {
    condition     = regex_replace(var.coverage_schedule, "^([0-9*,/-]+ ){4}[0-9*,/-]+$", "ok") == "ok"
    error_message = "A schedule is five cron fields, such as 0 7 * * *."
  }
}

variable "servers" {
  type        = map(string)
  description = "The PostgreSQL servers: name in backup/databases.toml to where Vault holds a URI of it."

  validation {
    condition     = length(var.servers) > 0
    error_message = "Name at least one server."
  }
}

variable "recovery_fingerprint" {
  type        = string
  description = "The recovery key's fingerprint, where backup/databases.toml does not pin it."
  default     = "none"

  validation {
    condition     = regex_replace(var.recovery_fingerprint, "^(none|[0-9A-F]{40}|[0-9A-F]{64})$", "ok") == "ok"
    error_message = "A fingerprint is 40 or 64 hexadecimal digits in capitals, or none."
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

variable "nomad_url" {
  type        = string
  description = "Nomad's address: where a snapshot is asked for, and where the pipelines' triggers launch runs."

  validation {
    condition     = regex_replace(var.nomad_url, "^(https?|git|ssh)://[^ ]+[^/ ]$", "ok") == "ok"
    error_message = "An address is a URL without a slash at its end."
  }
}

locals {
  secrets = "${var.vault_mount}/data/${var.environment}"
}

job "backup-coverage" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "batch"

  meta {
    ca_certificates = join("\n", var.ca_certificates) # frame.trust reads it in every task
  }

  periodic {
    crons            = [var.coverage_schedule]
    time_zone        = "UTC"
    prohibit_overlap = true
  }

  group "backup-coverage" {
    # A finding is told once a day, not repeated until it goes away.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "coverage" {
      driver       = "docker"
      user         = "50001:50001"
      kill_timeout = "5s" # it holds nothing

      vault {
        role         = "${var.environment}-backup-coverage"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      # Lets it leave a brief where Airflow's web server reads it, and do nothing else in Nomad
      # (nomad/acl/backup-coverage.policy.hcl).
      identity {
        env  = false
        file = true
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/b2.json"
        data                 = "{{ with secret \"${local.secrets}/backup/b2/drill\" }}{{ .Data.data | toJSON }}{{ end }}"
        uid                  = 50001
        gid                  = 50001
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination = "${NOMAD_SECRETS_DIR}/servers.json"
        # A JSON object of URIs by the servers' names.
        data                 = "{ ${join(", ", [for name, path in var.servers : "\"${name}\": {{ with secret \"${local.secrets}/${path}\" }}{{ .Data.data.uri | toJSON }}{{ end }}"])} }"
        uid                  = 50001
        gid                  = 50001
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/recipients.asc"
        data                 = "{{ with secret \"${local.secrets}/backup/recipients\" }}{{ .Data.data.armor }}{{ end }}"
        uid                  = 50001
        gid                  = 50001
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/manifest_recipient.asc"
        data                 = "{{ with secret \"${local.secrets}/backup/manifest-recipient\" }}{{ .Data.data.armor }}{{ end }}"
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
        BACKUP_SECRETS_DIR   = "/secrets"
        BACKUP_B2_REALM      = var.b2_realm
        BACKUP_BUCKET        = var.b2_bucket
        BACKUP_PREFIX        = var.environment
        BACKUP_NOMAD_ADDRESS = var.nomad_url
        BACKUP_BRIEF         = "/v1/var/nomad/jobs/airflow-webserver/webserver/webserver?namespace=${var.namespace}"
        BACKUP_RECOVERY_KEY  = var.recovery_fingerprint == "none" ? "" : var.recovery_fingerprint
      }

      config {
        image      = var.backup_image
        force_pull = false
        args       = ["coverage"]
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
        cpu    = 100 # MHz: it lists and asks
        memory = 192 # Python, and the lists
      }
    }
  }
}

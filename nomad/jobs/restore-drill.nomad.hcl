# The monthly proof: the newest backup of every database is restored into a throwaway PostgreSQL and
# compared with its manifest. What is restored is strangers' code with a superuser's rights, so the
# server is a task of its own, without secret, identity and network; the task that has the keys
# sends it SQL by a socket. `nomad job periodic force restore-drill` holds one now. Run once more with
# -var drill_start=dispatch it is restore-drill-now, for chosen databases or of a date:
# `nomad job dispatch -meta databases="hr records" -meta at=2026-11-20 restore-drill-now`.

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

variable "drill_schedule" {
  type        = string
  description = "When it runs: cron, UTC."
  default     = "0 6 1 * *"

  validation {
    condition     = regex_replace(var.drill_schedule, "^([0-9*,/-]+ ){4}[0-9*,/-]+$", "ok") == "ok"
    error_message = "A schedule is five cron fields, such as 0 6 1 * *."
  }
}

variable "drill_timeout" {
  type        = string
  description = "The longest that a drill of all databases may take."
  default     = "8h"

  validation {
    condition     = regex_replace(var.drill_timeout, "^[0-9]+[smh]$", "ok") == "ok"
    error_message = "A time is a number and its unit, such as 90m or 8h."
  }
}

variable "drill_start" {
  type        = string
  description = "What starts it: the schedule (restore-drill), or a dispatch (restore-drill-now)."
  default     = "schedule"

  validation {
    condition     = contains(["schedule", "dispatch"], var.drill_start)
    error_message = "A drill is started by its schedule or by a dispatch."
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
  secrets = "${var.vault_mount}/data/${var.environment}"
  id      = var.drill_start == "dispatch" ? "restore-drill-now" : "restore-drill"

  # Of the allocation, so that each drill has a server to itself. A unix socket's path is short.
  sockets = "/alloc/data/server"
}

job "restore-drill" {
  id          = local.id
  name        = local.id
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "batch"

  dynamic "periodic" {
    for_each = var.drill_start == "schedule" ? [var.drill_schedule] : []

    content {
      crons            = [periodic.value]
      time_zone        = "UTC"
      prohibit_overlap = true
    }
  }

  dynamic "parameterized" {
    for_each = var.drill_start == "dispatch" ? [["databases", "at"]] : []

    content {
      payload       = "forbidden"
      meta_optional = parameterized.value
    }
  }

  # What a dispatch may say otherwise: which databases, and the time of the newest backups to take.
  meta {
    databases       = ""
    at              = ""
    ca_certificates = join("\n", var.ca_certificates) # frame.trust reads it in every task
  }

  group "restore-drill" {
    # A drill that failed is a finding: it is looked at, not repeated until it passes.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    # Disks of this node, for one database at a time, its dump in plain and its server's data;
    # emptied on any exit. Each is one user's.
    volume "scratch" {
      type   = "host"
      source = "${local.volumes}backup-scratch"
    }

    volume "server" {
      type   = "host"
      source = "${local.volumes}scratch-server"
    }

    # Process 1 is the platform's. When a lease ends it kills everything else in the container and
    # empties every place where that could have written.
    task "server" {
      driver       = "docker"
      user         = "root" # until frame.launcher has shut Nomad's folders
      kill_timeout = "30s"  # what runs is killed, what it wrote is removed

      lifecycle {
        hook    = "prestart"
        sidecar = true
      }

      env {
        BACKUP_SCRATCH = "/scratch"
      }

      config {
        image      = var.backup_image
        force_pull = false

        # It shares the sockets below /alloc with the drill.
        entrypoint = [
          "/opt/venv/bin/python", "-m", "frame.launcher", "--stranger=50004",
          "--user=50004:50004", "--pass=/alloc", "/opt/venv/bin/python", "-m", "backup",
        ]
        args = [
          "scratch-server", local.sockets,
          "--wipe", "/tmp", "--wipe", "/dev/shm", "--wipe", "/alloc/data", "--wipe", "/alloc/tmp",
        ]

        network_mode = "none"
        cap_drop     = ["all"]
        cap_add      = ["fowner", "setuid", "setgid"]
        security_opt = ["no-new-privileges"]
        pids_limit   = 512 # 100 connections, their parallel workers, PostgreSQL's own dozen

        # Strangers' code finds no place to stay in.
        readonly_rootfs = true

        mount {
          type   = "tmpfs"
          target = "/tmp"

          tmpfs_options {
            size = 16777216 # 16 MiB, in bytes: PostgreSQL needs none of it
          }
        }
      }

      volume_mount {
        volume      = "server"
        destination = "/scratch"
      }

      resources {
        cpu        = 1000 # MHz: its share of a full node, no cap
        memory     = 768  # a PostgreSQL server with its default settings
        memory_max = 3072 # while indexes are built by several jobs
      }
    }

    task "drill" {
      driver       = "docker"
      user         = "50001:50001"
      kill_timeout = "45s" # the scratch directory is removed, the report kept: bounded at 30 s

      vault {
        role         = "${var.environment}-${local.id}"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
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
        destination          = "${NOMAD_SECRETS_DIR}/b2_results.json"
        data                 = "{{ with secret \"${local.secrets}/backup/b2/drill-results\" }}{{ .Data.data | toJSON }}{{ end }}"
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
        destination          = "${NOMAD_SECRETS_DIR}/signing_key.asc"
        data                 = "{{ with secret \"${local.secrets}/backup/signing/restore-drill\" }}{{ .Data.data.armor }}{{ end }}"
        uid                  = 50001
        gid                  = 50001
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/drill_key.asc"
        data                 = "{{ with secret \"${local.secrets}/backup/drill-key\" }}{{ .Data.data.armor }}{{ end }}"
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
        BACKUP_SECRETS_DIR    = "/secrets"
        BACKUP_B2_REALM       = var.b2_realm
        BACKUP_BUCKET         = var.b2_bucket
        BACKUP_PREFIX         = var.environment
        BACKUP_SCRATCH        = "/scratch"
        BACKUP_SCRATCH_SERVER = local.sockets
      }

      config {
        image      = var.backup_image
        force_pull = false
        args       = ["drill", "--timeout", var.drill_timeout]
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

      volume_mount {
        volume      = "scratch"
        destination = "/scratch"
      }

      resources {
        cpu        = 1000 # MHz: its share of a full node, no cap
        memory     = 512  # gpg, zstd, pg_restore's jobs and the comparison's sessions
        memory_max = 2048
      }
    }

    # A drill that is killed, for want of memory perhaps, cannot take its plaintext away itself.
    task "sweep" {
      driver = "docker"
      user   = "50001:50001"

      lifecycle {
        hook = "poststop"
      }

      env {
        BACKUP_SCRATCH = "/scratch"
      }

      config {
        image      = var.backup_image
        force_pull = false
        args       = ["sweep"]
        cap_drop   = ["all"]
      }

      volume_mount {
        volume      = "scratch"
        destination = "/scratch"
      }

      resources {
        cpu    = 50  # MHz: its share of a full node, no cap
        memory = 128 # Python, and no server
      }
    }

    task "sweep-server" {
      driver = "docker"
      user   = "50004:50004"

      lifecycle {
        hook = "poststop"
      }

      env {
        BACKUP_SCRATCH = "/scratch"
      }

      config {
        image        = var.backup_image
        force_pull   = false
        args         = ["sweep", "--everything"]
        network_mode = "none"
        cap_drop     = ["all"]
      }

      volume_mount {
        volume      = "server"
        destination = "/scratch"
      }

      resources {
        cpu    = 50  # MHz: its share of a full node, no cap
        memory = 128 # Python, and no server
      }
    }
  }
}

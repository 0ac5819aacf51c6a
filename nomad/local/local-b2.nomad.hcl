# The B2 endpoint: Backblaze's native API on this machine's disk.
# It exists on one machine only; a real institution has its own.

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

variable "local_image" {
  type        = string
  description = "The local image, pinned by a content tag or a digest."

  validation {
    condition     = regex_replace(var.local_image, "^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$", "ok") == "ok" && regex_replace(var.local_image, ":latest$", "") == var.local_image
    error_message = "The image must be pinned by a tag other than latest, or by a digest."
  }
}

locals {
  secrets = "${var.vault_mount}/data/${var.environment}"
}

job "local-b2" {
  type = "service"

  update {
    health_check      = "checks"
    min_healthy_time  = "1s"
    healthy_deadline  = "2m"
    progress_deadline = "168h" # after it Nomad replaces nothing that fails: docs/decisions/0028
  }

  group "b2" {
    restart {
      attempts = 3
      interval = "5m"
      delay    = "5s"
      mode     = "delay" # there is one node: it is tried here until it runs
    }

    # What the driver fails is not tried again in place.
    reschedule {
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "1m"
      unlimited      = true
    }

    network {
      port "http" {
        static = 15080
        to     = 9180
      }
    }

    volume "data" {
      type   = "host"
      source = "local-b2"
    }

    service {
      name     = "local-b2"
      provider = "nomad"
      port     = "http"

      check {
        type     = "http"
        path     = "/harmattan-test/health"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "b2" {
      driver       = "docker"
      user         = "50002:50002"
      kill_timeout = "30s"

      vault {
        role         = "${var.environment}-local-b2"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/master.json"
        data                 = "{{ with secret \"${local.secrets}/local/b2\" }}{{ .Data.data | toJSON }}{{ end }}"
        uid                  = 50002
        gid                  = 50002
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      config {
        image      = var.local_image
        force_pull = false
        args       = ["python", "-m", "standins.b2_server", "--data", "/var/lib/harmattan/b2", "--credentials", "/secrets/master.json", "--host", "0.0.0.0", "--port", "9180"]
        ports      = ["http"]
        cap_drop   = ["all"]
      }

      volume_mount {
        volume      = "data"
        destination = "/var/lib/harmattan/b2"
      }

      resources {
        cpu        = 200 # MHz: its share of a full node, no cap
        memory     = 128 # 30 MB seen: files pass through in pieces
        memory_max = 512
      }
    }
  }
}

# The analysts' git remote, over SSH.
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

job "local-git" {
  type = "service"

  update {
    health_check      = "checks"
    min_healthy_time  = "1s"
    healthy_deadline  = "2m"
    progress_deadline = "168h" # after it Nomad replaces nothing that fails: docs/decisions/0028
  }

  group "sshd" {
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
      port "ssh" {
        static = 15022
        to     = 2222
      }
    }

    volume "data" {
      type   = "host"
      source = "local-git"
    }

    service {
      name     = "local-git"
      provider = "nomad"
      port     = "ssh"

      check {
        type     = "tcp"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "sshd" {
      driver       = "docker"
      user         = "50002:50002"
      kill_timeout = "30s"

      vault {
        role         = "${var.environment}-local-git"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/host_key"
        data                 = "{{ with secret \"${local.secrets}/local/git\" }}{{ .Data.data.host_key }}{{ end }}"
        uid                  = 50002
        gid                  = 50002
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/analysts_key.pub"
        data                 = "{{ with secret \"${local.secrets}/local/git\" }}{{ .Data.data.analysts_key_public }}{{ end }}"
        uid                  = 50002
        gid                  = 50002
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/deploy_key.pub"
        data                 = "{{ with secret \"${local.secrets}/local/git\" }}{{ .Data.data.deploy_key_public }}{{ end }}"
        uid                  = 50002
        gid                  = 50002
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      config {
        image      = var.local_image
        force_pull = false
        args       = ["git-remote.sh", "/secrets"]
        ports      = ["ssh"]
        cap_drop   = ["all"]
      }

      volume_mount {
        volume      = "data"
        destination = "/var/lib/harmattan/git"
      }

      resources {
        cpu        = 200 # MHz: its share of a full node, no cap
        memory     = 64  # 4 MB seen, and git for each connection
        memory_max = 256
      }
    }
  }
}

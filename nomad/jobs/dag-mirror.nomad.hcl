# The analysts' repository as the platform knows it: a read-only git service of what passed the gate.

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

variable "airflow_image" {
  type        = string
  description = "The Airflow image, pinned by a content tag or a digest."

  validation {
    condition     = regex_replace(var.airflow_image, "^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$", "ok") == "ok" && regex_replace(var.airflow_image, ":latest$", "") == var.airflow_image
    error_message = "The image must be pinned by a tag other than latest, or by a digest."
  }
}

variable "dag_mirror_port" {
  type        = number
  description = "The port of the git service on its node."
  default     = 9418

  validation {
    condition     = var.dag_mirror_port > 0 && var.dag_mirror_port < 65536
    error_message = "A port is a number from 1 to 65535."
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

locals {
  volumes = var.volume_prefix == "none" ? "" : var.volume_prefix
}

job "dag-mirror" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "service"

  update {
    max_parallel      = 1
    health_check      = "checks"
    min_healthy_time  = "10s"
    healthy_deadline  = "2m"
    progress_deadline = "168h" # after it Nomad replaces nothing that fails: docs/decisions/0028
    auto_revert       = true
  }

  group "dag-mirror" {
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
      port "git" {
        static = var.dag_mirror_port
        to     = 9418
      }
    }

    volume "mirror" {
      type   = "host"
      source = "${local.volumes}dag-mirror"
    }

    service {
      name     = "dag-mirror"
      provider = "nomad"
      port     = "git"

      check {
        type     = "tcp"
        interval = "10s"
        timeout  = "2s"

        check_restart {
          limit = 6 # a minute of silence
          grace = "30s"
        }
      }
    }

    task "git-daemon" {
      driver = "docker"
      user   = "50000:50000"

      env {
        DELIVERY_MIRROR = "/mirror"
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["python", "-m", "delivery", "mirror"]
        ports      = ["git"]
        cap_drop   = ["all"]
      }

      volume_mount {
        volume      = "mirror"
        destination = "/mirror"
      }

      resources {
        cpu    = 50  # MHz: its share of a full node, no cap
        memory = 128 # a pack of some megabytes for each clone at once
      }
    }
  }
}

# A container that analysts' files may run: `nomad job run -var container=meltano …` registers
# container-meltano, which waits to be dispatched. scripts/deploy.py does so for every entry of
# nomad/containers.toml. It stands in the namespace of what Airflow may launch, and has the secrets of its
# own role in Vault for as long as it runs.

variable "datacenters" {
  type        = list(string)
  description = "Where the job may run."
  default     = ["*"]

  validation {
    condition     = length(var.datacenters) > 0
    error_message = "Name at least one datacenter."
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

variable "runs_namespace" {
  type        = string
  description = "Nomad's namespace of the jobs that Airflow may launch."
  default     = "runs"

  validation {
    condition     = regex_replace(var.runs_namespace, "^[a-zA-Z0-9-]{1,128}$", "ok") == "ok"
    error_message = "A namespace is letters, digits and hyphens."
  }
}

variable "container" {
  type        = string
  description = "The container, as nomad/containers.toml calls it."

  validation {
    condition     = regex_replace(var.container, "^[a-z][a-z0-9_]{0,39}$", "ok") == "ok"
    error_message = "A container's name is lower-case letters, digits and underscores."
  }
}

variable "container_images" {
  type        = map(string)
  description = "The image of each container, by its name, pinned by a content tag or a digest."
  default     = {}

  validation {
    condition     = length([for image in values(var.container_images) : image if regex_replace(image, "^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$", "ok") != "ok" || regex_replace(image, ":latest$", "") != image]) == 0
    error_message = "The image must be pinned by a tag other than latest, or by a digest."
  }
}

variable "container_args" {
  type        = list(string)
  description = "What its program is given; $${NOMAD_META_name} stands for what a file says in meta."
  default     = []

  validation {
    condition     = length([for word in var.container_args : word if regex_replace(word, "^[ -~]{1,500}$", "ok") != "ok"]) == 0
    error_message = "A word is of printable characters, 500 at most."
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

variable "container_meta" {
  type        = list(string)
  description = "What a file may say in meta, by name."
  default     = []

  validation {
    condition     = length([for name in var.container_meta : name if regex_replace(name, "^[a-z][a-z0-9_]{0,39}$", "ok") != "ok"]) == 0
    error_message = "A name is lower-case letters, digits and underscores."
  }
}

variable "container_memory" {
  type        = number
  description = "Memory of a run in MB."
  default     = 512

  validation {
    condition     = var.container_memory >= 32
    error_message = "A container needs at least 32 MB."
  }
}

job "container" {
  id          = "container-${var.container}"
  name        = "container-${var.container}"
  namespace   = var.runs_namespace
  datacenters = var.datacenters
  type        = "batch"

  meta {
    ca_certificates = join("\n", var.ca_certificates)
  }

  parameterized {
    payload       = "forbidden"
    meta_required = ["run_id"]
    meta_optional = concat(["log_url"], var.container_meta)
  }

  group "container" {
    # Airflow tries again, with its delays, and knows whether that helps.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "container" {
      driver       = "docker"
      user         = "50012:50012"
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      vault {
        role         = "${var.environment}-container-${var.container}"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      # A JSON object of variables: all that Vault holds for this container.
      template {
        destination          = "${NOMAD_SECRETS_DIR}/variables.json"
        data                 = "{{ with secret \"${var.vault_mount}/data/${var.environment}/containers/${var.container}\" }}{{ .Data.data | toJSON }}{{ end }}"
        uid                  = 50012
        gid                  = 50012
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
        once                 = true # who reads it may remove it
      }

      env {
        CONTAINER_SECRETS = "/secrets/variables.json"
      }

      config {
        image           = var.container_images[var.container]
        force_pull      = false
        args            = var.container_args
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
        pids_limit      = 256
        work_dir        = "/tmp"

        mount {
          type   = "tmpfs"
          target = "/tmp"

          tmpfs_options {
            size = 268435456 # 256 MiB, in bytes
          }
        }
      }

      resources {
        cpu        = 500                      # MHz: its share of a full node, no cap
        memory     = var.container_memory     # as nomad/containers.toml says
        memory_max = var.container_memory * 2 # for moments
      }
    }
  }
}

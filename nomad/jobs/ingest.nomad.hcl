# One ingest job a source: `nomad job run -var source=hr …` registers ingest-hr, which waits to be
# dispatched, once a run. scripts/deploy.py does so for every entry of nomad/sources.toml. It stands in
# a namespace of its own: who may launch something there can launch nothing else of the platform.

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

variable "ingest_image" {
  type        = string
  description = "The ingest image, pinned by a content tag or a digest."

  validation {
    condition     = regex_replace(var.ingest_image, "^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$", "ok") == "ok" && regex_replace(var.ingest_image, ":latest$", "") == var.ingest_image
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

variable "source" {
  type        = string
  description = "The source, as nomad/sources.toml calls it."

  validation {
    condition     = regex_replace(var.source, "^[a-z][a-z0-9_]{0,39}$", "ok") == "ok"
    error_message = "A source's name is lower-case letters, digits and underscores."
  }
}

variable "source_connections" {
  type        = map(string)
  description = "The connections of its runs: id to where Vault holds it, behind the environment's prefix."

  validation {
    condition     = length(var.source_connections) > 0
    error_message = "Name at least the source's own connection."
  }
}

variable "ingest_timeout" {
  type        = string
  description = "The longest that a run may take: it hangs beyond the hours that reading and readers take."
  default     = "12h" # publishing alone waits for 6 h, unless the file says otherwise

  validation {
    condition     = regex_replace(var.ingest_timeout, "^[1-9][0-9]*[smh]$", "ok") == "ok"
    error_message = "A time is a number and its unit, such as 90m or 4h."
  }
}

variable "ingest_memory" {
  type        = number
  description = "Memory of a run in MB: it takes 80, and a few times its largest rows."
  default     = 256

  validation {
    condition     = var.ingest_memory >= 128
    error_message = "A run needs at least 128 MB."
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
  # A JSON object: of each id what Vault holds.
  connections = join(",", [
    for id, path in var.source_connections :
    "\"${id}\": {{ with secret \"${local.secrets}/${path}\" }}{{ .Data.data | toJSON }}{{ end }}"
  ])
}

job "ingest" {
  id          = "ingest-${var.source}"
  name        = "ingest-${var.source}"
  namespace   = var.runs_namespace
  datacenters = var.datacenters
  type        = "batch"

  meta {
    ca_certificates = join("\n", var.ca_certificates) # frame.trust reads it in every task
  }

  # `ingest job --help` explains each.
  parameterized {
    payload       = "forbidden"
    meta_required = ["pipeline", "run_id"]
    meta_optional = ["commit", "full_refresh", "tables", "interval_start", "interval_end", "tries_left", "log_url"]
  }

  group "ingest" {
    # Airflow tries again, with its delays, and knows whether that helps.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "ingest" {
      driver       = "docker"
      user         = "50006:50006"
      kill_signal  = "SIGTERM"
      kill_timeout = "30s" # cancelling what both servers do takes seconds; they undo the rest themselves

      vault {
        role         = "${var.environment}-ingest-${var.source}"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/connections.json"
        data                 = "{ ${local.connections} }"
        uid                  = 50006
        gid                  = 50006
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
        once                 = true # the run removes it when it has read it
      }

      # git's configuration, with the header that logs in at the mirror and nowhere else.
      dynamic "template" {
        for_each = var.dag_mirror_login ? [var.dag_mirror_url] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/git_config"
          data                 = "[http \"${template.value}/\"]\nextraHeader = Authorization: Basic {{ with secret \"${local.secrets}/delivery/mirror\" }}{{ printf \"%s:%s\" .Data.data.username .Data.data.token | base64Encode }}{{ end }}\n"
          uid                  = 50006
          gid                  = 50006
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
          once                 = true
        }
      }

      env {
        HARMATTAN_SOURCE      = var.source
        HARMATTAN_MIRROR      = var.dag_mirror_url
        HARMATTAN_GIT_CONFIG  = var.dag_mirror_login ? "/secrets/git_config" : ""
        HARMATTAN_CONNECTIONS = "/secrets/connections.json"
        HARMATTAN_TIMEOUT     = var.ingest_timeout
      }

      config {
        image           = var.ingest_image
        force_pull      = false
        args            = ["job"]
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
        pids_limit      = 128 # a thread for each of 64 parallel sessions at most, and git

        # What git brings, for the moment of reading it.
        mount {
          type   = "tmpfs"
          target = "/tmp"

          tmpfs_options {
            size = 67108864 # 64 MiB, in bytes
          }
        }
      }

      resources {
        cpu        = 500                   # MHz: its share of a full node, no cap
        memory     = var.ingest_memory     # Python, and what is between two sockets
        memory_max = var.ingest_memory * 2 # rows of hundreds of megabytes
      }
    }
  }
}

# Superset: dashboards over the marts of the warehouse. One process: what it caches, and how often
# somebody may try to log in, is counted in it (docs/decisions/0039).

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

variable "superset_port" {
  type        = number
  description = "The port that Superset has on its node."
  default     = 8088

  validation {
    condition     = var.superset_port > 0 && var.superset_port < 65536
    error_message = "A port is a number from 1 to 65535."
  }
}

variable "superset_plain_http" {
  type        = bool
  description = "Whether no proxy with TLS stands before Superset, as on one machine."
  default     = false

  validation {
    condition     = var.superset_plain_http == true || var.superset_plain_http == false
    error_message = "It is true or false."
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

variable "proxy_addresses" {
  type        = string
  description = "Whose word on how people came here is believed: proxies' addresses or networks, with commas."
  default     = "127.0.0.1"

  validation {
    condition     = regex_replace(var.proxy_addresses, "^[0-9a-fA-F.:]+(/[0-9]+)?(,[0-9a-fA-F.:]+(/[0-9]+)?)*$", "ok") == "ok"
    error_message = "Addresses and networks stand with commas between them, such as 10.0.0.2,10.1.0.0/24."
  }
}

locals {
  secrets = "${var.vault_mount}/data/${var.environment}"
}

job "superset" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "service"

  meta {
    ca_certificates = join("\n", var.ca_certificates) # frame.trust reads it in every task
  }

  update {
    max_parallel      = 1
    health_check      = "checks"
    min_healthy_time  = "10s"
    healthy_deadline  = "20m"  # includes the 15 minutes that a migration is waited for
    progress_deadline = "168h" # after it Nomad replaces nothing that fails: docs/decisions/0028
    auto_revert       = true
  }

  group "superset" {
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
      port "http" {
        static = var.superset_port
        to     = 8088
      }
    }

    service {
      name     = "superset"
      provider = "nomad"
      port     = "http"

      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "5s"

        check_restart {
          limit = 6      # a minute of silence
          grace = "300s" # a start takes minutes where the machine is busy
        }
      }
    }

    # Waits for the migration, never migrates: only superset-migrate may change the schema.
    task "wait-for-migration" {
      driver = "docker"
      user   = "50005:50005"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      vault {
        role         = "${var.environment}-superset"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/metadata_uri"
        data                 = "{{ with secret \"${local.secrets}/superset/database/web\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      env {
        DASHBOARDS_METADATA_URI_FILE = "/secrets/metadata_uri"
      }

      config {
        image      = var.superset_image
        force_pull = false
        args       = ["python", "-m", "dashboards", "wait"]
        cap_drop   = ["all"]
      }

      resources {
        cpu    = 100 # MHz: its share of a full node, no cap
        memory = 128 # it asks the database, without Superset
      }
    }

    task "superset" {
      driver       = "docker"
      user         = "50005:50005"
      kill_timeout = "30s" # open requests end

      vault {
        role         = "${var.environment}-superset"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/metadata_uri"
        data                 = "{{ with secret \"${local.secrets}/superset/database/web\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/secret_key"
        data                 = "{{ with secret \"${local.secrets}/superset/secret-key\" }}{{ .Data.data.key }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/warehouse_uri"
        data                 = "{{ with secret \"${local.secrets}/superset/warehouse\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/oidc.json"
        data                 = "{{ with secret \"${local.secrets}/superset/oidc\" }}{{ .Data.data | toJSON }}{{ end }}"
        uid                  = 50005
        gid                  = 50005
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      env {
        DASHBOARDS_METADATA_URI_FILE  = "/secrets/metadata_uri"
        DASHBOARDS_SECRET_KEY_FILE    = "/secrets/secret_key"
        DASHBOARDS_WAREHOUSE_URI_FILE = "/secrets/warehouse_uri"
        DASHBOARDS_OIDC_FILE          = "/secrets/oidc.json"
        DASHBOARDS_MIRROR             = var.dag_mirror_url
        DASHBOARDS_PLAIN_HTTP         = var.superset_plain_http
        FORWARDED_ALLOW_IPS           = var.proxy_addresses
      }

      config {
        image      = var.superset_image
        force_pull = false
        args       = ["gunicorn", "--config", "/opt/harmattan/dashboards/gunicorn_config.py", "superset.app:create_app()"]
        ports      = ["http"]
        cap_drop   = ["all"]
      }

      resources {
        cpu        = 300 # MHz: its share of a full node, no cap
        memory     = 512 # 300 MB at rest, and the rows of a chart while it is made
        memory_max = 1024
      }
    }
  }
}

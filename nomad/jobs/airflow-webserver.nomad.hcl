# Airflow's api-server: the UI, the REST API, and the Execution API that workers talk to.

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

variable "airflow_image" {
  type        = string
  description = "The Airflow image, pinned by a content tag or a digest."

  validation {
    condition     = regex_replace(var.airflow_image, "^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$", "ok") == "ok" && regex_replace(var.airflow_image, ":latest$", "") == var.airflow_image
    error_message = "The image must be pinned by a tag other than latest, or by a digest."
  }
}

variable "airflow_url" {
  type        = string
  description = "Where people and workers reach the webserver, such as https://airflow.example.org"

  validation {
    condition     = regex_replace(var.airflow_url, "^(https?|git|ssh)://[^ ]+[^/ ]$", "ok") == "ok"
    error_message = "An address is a URL without a slash at its end."
  }
}

variable "webserver_count" {
  type        = number
  description = "How many api-servers; each node takes one, as the port is fixed."
  default     = 1

  validation {
    condition     = var.webserver_count > 0
    error_message = "At least one api-server is needed."
  }
}

variable "webserver_port" {
  type        = number
  description = "The port that the api-server has on its node."
  default     = 8080

  validation {
    condition     = var.webserver_port > 0 && var.webserver_port < 65536
    error_message = "A port is a number from 1 to 65535."
  }
}

variable "log_server_port" {
  type        = number
  description = "The port of the log servers, the same on every node."
  default     = 8793

  validation {
    condition     = var.log_server_port > 0 && var.log_server_port < 65536
    error_message = "A port is a number from 1 to 65535."
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

variable "dag_mirror_url" {
  type        = string
  description = "Where the job dag-mirror stands, such as git://10.0.0.5:9418"

  validation {
    condition     = regex_replace(var.dag_mirror_url, "^(https?|git|ssh)://[^ ]+[^/ ]$", "ok") == "ok"
    error_message = "An address is a URL without a slash at its end."
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

variable "page_warehouse" {
  type        = bool
  description = "Whether the page Delivery shows the pipelines: by the login in Vault at airflow/warehouse, which reads ops."
  default     = false

  validation {
    condition     = var.page_warehouse == true || var.page_warehouse == false
    error_message = "It is true or false."
  }
}

variable "push_hook" {
  type        = bool
  description = "Whether the analysts' git server may call AIRFLOW_URL/push: its secret in Vault at delivery/push-hook."
  default     = false

  validation {
    condition     = var.push_hook == true || var.push_hook == false
    error_message = "It is true or false."
  }
}

locals {
  secrets = "${var.vault_mount}/data/${var.environment}"
  backups = "nomad/jobs/airflow-webserver/webserver/webserver" # this task's own variable
}

job "airflow-webserver" {
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

  group "webserver" {
    count = var.webserver_count

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
        static = var.webserver_port
        to     = 8080
      }
    }

    service {
      name     = "airflow-webserver"
      provider = "nomad"
      port     = "http"

      # Alive; that its parts are well is what `make status` reads from the answer's body.
      check {
        type     = "http"
        path     = "/api/v2/monitor/health"
        interval = "10s"
        timeout  = "5s"

        check_restart {
          limit = 6      # a minute of silence
          grace = "300s" # a start takes minutes where the machine is busy
        }
      }
    }

    # Waits for the migration, never migrates: only airflow-migrate may change the schema.
    task "wait-for-migration" {
      driver = "docker"
      user   = "50000:50000"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      vault {
        role         = "${var.environment}-airflow-webserver"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/database_uri"
        data                 = "{{ with secret \"${local.secrets}/airflow/database/webserver\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["python", "-m", "harmattan.schema", "/secrets/database_uri"]
        cap_drop   = ["all"]
      }

      resources {
        cpu    = 100 # MHz: its share of a full node, no cap
        memory = 128 # it asks the database, without Airflow
      }
    }

    task "webserver" {
      driver       = "docker"
      user         = "50000:50000"
      kill_timeout = "30s" # open requests end

      vault {
        role         = "${var.environment}-airflow-webserver"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/database_uri"
        data                 = "{{ with secret \"${local.secrets}/airflow/database/webserver\" }}{{ .Data.data.uri }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/fernet_key"
        data                 = "{{ with secret \"${local.secrets}/airflow/fernet\" }}{{ .Data.data.key }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/jwt_secret"
        data                 = "{{ with secret \"${local.secrets}/airflow/jwt\" }}{{ .Data.data.secret }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/api_secret_key"
        data                 = "{{ with secret \"${local.secrets}/airflow/api\" }}{{ .Data.data.secret_key }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      # git's configuration, with the header that logs in at the mirror and nowhere else.
      dynamic "template" {
        for_each = var.dag_mirror_login ? [var.dag_mirror_url] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/git_config"
          data                 = "[http \"${template.value}/\"]\nextraHeader = Authorization: Basic {{ with secret \"${local.secrets}/delivery/mirror\" }}{{ printf \"%s:%s\" .Data.data.username .Data.data.token | base64Encode }}{{ end }}\n"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
        }
      }

      dynamic "template" {
        for_each = var.page_warehouse ? [var.environment] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/warehouse_uri"
          data                 = "{{ with secret \"${local.secrets}/airflow/warehouse\" }}{{ .Data.data.uri }}{{ end }}"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "restart"
        }
      }

      # No secret: what backup-coverage leaves for the page Delivery, empty until it has.
      template {
        destination          = "${NOMAD_SECRETS_DIR}/backups.json"
        data                 = "{{ if nomadVarExists \"${local.backups}\" }}{{ with nomadVar \"${local.backups}\" }}{{ .brief }}{{ end }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop" # it is read at each look
      }

      # Lets it start dag-sync (nomad/acl/push-hook.policy.hcl), no more.
      dynamic "identity" {
        for_each = var.push_hook ? ["default"] : []

        content {
          env  = false
          file = true
        }
      }

      dynamic "template" {
        for_each = var.push_hook ? ["delivery/push-hook"] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/push_hook"
          data                 = "{{ with secret \"${local.secrets}/${template.value}\" }}{{ .Data.data.secret }}{{ end }}"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "restart"
        }
      }

      env {
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD = "cat /secrets/database_uri"
        AIRFLOW__CORE__FERNET_KEY_CMD           = "cat /secrets/fernet_key"
        AIRFLOW__API_AUTH__JWT_SECRET_CMD       = "cat /secrets/jwt_secret"
        AIRFLOW__API__SECRET_KEY_CMD            = "cat /secrets/api_secret_key"
        AIRFLOW__API__BASE_URL                  = var.airflow_url
        FORWARDED_ALLOW_IPS                     = var.proxy_addresses
        AIRFLOW__CORE__PLUGINS_FOLDER           = "/opt/harmattan/plugins" # pages, so nobody else's
        # Where it asks for the logs of tasks, and of triggers.
        AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT  = var.log_server_port
        AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT = var.log_server_port
        # What the page Delivery reads.
        HARMATTAN_MIRROR        = var.dag_mirror_url
        HARMATTAN_BACKUPS       = "/secrets/backups.json"
        HARMATTAN_GIT_CONFIG    = var.dag_mirror_login ? "/secrets/git_config" : ""
        HARMATTAN_WAREHOUSE_URI = var.page_warehouse ? "/secrets/warehouse_uri" : ""
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["airflow", "api-server", "--host", "0.0.0.0", "--port", "8080", "--proxy-headers"]
        ports      = ["http"]
        cap_drop   = ["all"]
      }

      resources {
        cpu        = 300 # MHz: its share of a full node, no cap
        memory     = 512 # 260 MB at rest; the FAB views and the API's schemas take the rest
        memory_max = 1024
      }
    }
  }
}

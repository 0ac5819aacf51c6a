# Redis: the broker between scheduler and workers, and a second one for how tasks ended. One ACL user
# a pool, so that a worker reaches its own queue and no other's, whatever its tasks forge. Nothing is
# kept: it starts on any node, empty, and the scheduler sends again what was queued.

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

variable "redis_image" {
  type        = string
  description = "The Redis image, pinned by a content tag or a digest."

  validation {
    condition     = regex_replace(var.redis_image, "^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$", "ok") == "ok" && regex_replace(var.redis_image, ":latest$", "") == var.redis_image
    error_message = "The image must be pinned by a tag other than latest, or by a digest."
  }
}

variable "redis_port" {
  type        = number
  description = "The port of Redis on its node."
  default     = 6379

  validation {
    condition     = var.redis_port > 0 && var.redis_port < 65536
    error_message = "A port is a number from 1 to 65535."
  }
}

variable "redis_memory" {
  type        = number
  description = "Memory of each of both in MB; a queued task takes some kilobytes."
  default     = 128

  validation {
    condition     = var.redis_memory >= 64
    error_message = "Redis needs at least 64 MB."
  }
}

variable "worker_queues" {
  type        = list(string)
  description = "The queues of the pools of workers: a job airflow-worker-<queue> each."
  default     = ["analysts"]

  validation {
    condition     = contains(var.worker_queues, "analysts")
    error_message = "The queue analysts is every task's that names none."
  }
}

variable "redis_results_port" {
  type        = number
  description = "The port of the tasks' results on the same node."
  default     = 6380

  validation {
    condition     = var.redis_results_port > 0 && var.redis_results_port < 65536
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

variable "redis_tls" {
  type        = bool
  description = "Whether Redis speaks TLS, with the certificate and key in Vault at redis/tls."
  default     = false

  validation {
    condition     = var.redis_tls == true || var.redis_tls == false
    error_message = "It is true or false."
  }
}

# Two servers, because a full one refuses whoever writes: workers write results and the scheduler
# writes tasks, so neither can fill what the other needs. Keys and commands are those that Celery 5.6
# with kombu 5.7 was seen to use; a test runs tasks through them and tries what must be refused.
locals {
  secrets   = "${var.vault_mount}/data/${var.environment}"
  connect   = "resetchannels -@all +auth +hello +ping +client|setname"
  passwords = { for user in concat(["scheduler"], [for pool in var.worker_queues : "worker-${pool}"]) : user => "#{{ with secret \"${local.secrets}/redis/${user}\" }}{{ .Data.data.password | sha256Hex }}{{ end }}" }

  # Whoever asks for PING may do no more: Nomad's check.
  nobody = ["user default off", "user health on nopass ${local.connect}"]

  # ??[369] are kombu's names for its priorities.
  broker = concat(
    local.nobody,
    ["user scheduler on ${local.passwords["scheduler"]} ${local.connect} +multi +exec +discard +llen +sadd +lpush ${join(" ", [for pool in var.worker_queues : "~${pool} ~${pool}??[369] ~_kombu.binding.${pool} ~_kombu.binding_permanent.${pool}"])}"],
    [for pool in var.worker_queues : "user worker-${pool} on ${local.passwords["worker-${pool}"]} ${local.connect} +brpop ~${pool} ~${pool}??[369]"],
  )
  results = concat(
    local.nobody,
    ["user scheduler on ${local.passwords["scheduler"]} ${local.connect} +get +mget +subscribe +unsubscribe %R~celery-task-meta-* &celery-task-meta-*"],
    [for pool in var.worker_queues : "user worker-${pool} on ${local.passwords["worker-${pool}"]} ${local.connect} +multi +exec +get +set +setex +publish ~celery-task-meta-* &celery-task-meta-*"],
  )

  servers = { broker = local.broker, results = local.results }

  # By port 0 nobody gets in without TLS. Who connects logs in by password: no certificates of clients.
  tls = [
    "--port", "0", "--tls-port", "6379", "--tls-auth-clients", "no",
    "--tls-cert-file", "/secrets/certificate.pem", "--tls-key-file", "/secrets/key.pem",
  ]
}

job "redis" {
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

  group "redis" {
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
      port "broker" {
        static = var.redis_port
        to     = 6379
      }

      port "results" {
        static = var.redis_results_port
        to     = 6379
      }

      port "health" {
        to = 8379
      }
    }

    service {
      name     = "redis"
      provider = "nomad"
      port     = "broker"

      check {
        type     = "http" # a PING after a login at both: a port that answers is no broker yet
        port     = "health"
        path     = "/"
        interval = "10s"
        timeout  = "8s"

        check_restart {
          limit = 6 # a minute of silence
          grace = "30s"
        }
      }
    }

    service {
      name     = "redis-results"
      provider = "nomad"
      port     = "results"

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

    dynamic "task" {
      for_each = local.servers
      labels   = [task.key]

      content {
        driver       = "docker"
        user         = "50003:50003"
        kill_timeout = "10s"

        vault {
          role         = "${var.environment}-redis"
          env          = false
          disable_file = true
          change_mode  = "noop" # a new token brings the same secrets
        }

        # Passwords only as hashes, and the default user off: nobody reads a password from Redis.
        template {
          destination          = "${NOMAD_SECRETS_DIR}/users.acl"
          data                 = join("\n", concat(task.value, [""]))
          uid                  = 50003
          gid                  = 50003
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "restart"
        }

        dynamic "template" {
          for_each = var.redis_tls ? ["certificate", "key"] : []

          content {
            destination          = "${NOMAD_SECRETS_DIR}/${template.value}.pem"
            data                 = "{{ with secret \"${local.secrets}/redis/tls\" }}{{ .Data.data.${template.value} }}{{ end }}"
            uid                  = 50003
            gid                  = 50003
            perms                = "0400"
            error_on_missing_key = true
            change_mode          = "restart"
          }
        }

        config {
          image      = var.redis_image
          force_pull = false
          args = concat([
            "redis-server",
            "--aclfile", "/secrets/users.acl",
            "--bind", "0.0.0.0", "--protected-mode", "no",
            "--dir", "/tmp", "--save", "", "--appendonly", "no",
            # One that is full must refuse, not forget: a lost message is a task that waits.
            "--maxmemory", "${floor(var.redis_memory * 0.75)}mb", "--maxmemory-policy", "noeviction",
            "--maxmemory-clients", "20%", # what clients leave unread counts, and ends with them
          ], var.redis_tls ? local.tls : [])
          ports           = [task.key]
          cap_drop        = ["all"]
          readonly_rootfs = true
        }

        resources {
          cpu    = 100              # MHz: its share of a full node, no cap
          memory = var.redis_memory # its data, three quarters of it, and the process
        }
      }
    }

    task "health" {
      driver = "docker"
      user   = "50003:50003"

      lifecycle {
        hook    = "poststart"
        sidecar = true
      }

      dynamic "template" {
        for_each = var.redis_tls ? [join("\n", var.ca_certificates)] : []

        content {
          destination = "${NOMAD_TASK_DIR}/ca.pem"
          data        = template.value
          change_mode = "noop"
        }
      }

      env {
        TLS = var.redis_tls ? "--tls --cacert /local/ca.pem" : ""
      }

      config {
        image           = var.redis_image
        force_pull      = false
        args            = ["socat", "-T8", "TCP-LISTEN:8379,fork,reuseaddr,max-children=8", "EXEC:answer"]
        ports           = ["health"]
        cap_drop        = ["all"]
        readonly_rootfs = true
      }

      resources {
        cpu    = 20 # MHz: its share of a full node, no cap
        memory = 32 # a shell and redis-cli for each question
      }
    }
  }
}

# Redis: the broker between scheduler and workers. One ACL user a pool, so that a worker reaches its
# own queue and no other's, whatever message its tasks forge.

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
  description = "Memory of Redis in MB; a queued task takes some kilobytes."
  default     = 128

  validation {
    condition     = var.redis_memory >= 64
    error_message = "Redis needs at least 64 MB."
  }
}

# Key patterns and commands are those that Celery 5.6 with kombu 5.7 was seen to use; a test runs
# tasks through them and tries what must be refused.
locals {
  secrets = "${var.vault_mount}/data/${var.environment}"

  # %Q% is the pool's queue. The patterns ??[369] are kombu's names for its priorities.
  worker_keys     = "~%Q% ~%Q%??[369] ~_kombu.binding.%Q% ~_kombu.binding_permanent.%Q% ~%Q%.unacked* ~celery-task-meta-* &celery-task-meta-* &/0.%Q%.celeryev/*"
  worker_commands = "+auth +hello +ping +client|setname +multi +exec +watch +unwatch +discard +llen +sadd +srem +smembers +brpop +lpush +rpush +zadd +zrem +zrange +zrangebyscore +zrevrangebyscore +hset +hget +hdel +set +get +del +setex +exists +evalsha +script|load +script|exists +publish +subscribe +unsubscribe +psubscribe +punsubscribe"

  scheduler_keys     = "~analysts ~analysts??[369] ~ingest ~ingest??[369] ~_kombu.binding.analysts ~_kombu.binding_permanent.analysts ~_kombu.binding.ingest ~_kombu.binding_permanent.ingest %R~celery-task-meta-* &celery-task-meta-*"
  scheduler_commands = "+auth +hello +ping +client|setname +multi +exec +discard +llen +sadd +lpush +get +mget +subscribe +unsubscribe +publish"

  users = {
    "scheduler"       = "${local.scheduler_keys} -@all ${local.scheduler_commands}"
    "worker-ingest"   = "${replace(local.worker_keys, "%Q%", "ingest")} -@all ${local.worker_commands}"
    "worker-analysts" = "${replace(local.worker_keys, "%Q%", "analysts")} -@all ${local.worker_commands}"
  }
}

job "redis" {
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
      port "redis" {
        static = var.redis_port
        to     = 6379
      }
    }

    volume "data" {
      type   = "host"
      source = "redis"
    }

    service {
      name     = "redis"
      provider = "nomad"
      port     = "redis"

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

    task "redis" {
      driver       = "docker"
      user         = "50003:50003"
      kill_timeout = "30s" # it writes its last file

      vault {
        role         = "redis"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      # Passwords only as hashes, and the default user off: nobody reads a password from Redis.
      template {
        destination          = "${NOMAD_SECRETS_DIR}/users.acl"
        data                 = join("\n", concat(["user default off"], [for name, rights in local.users : "user ${name} on #{{ with secret \"${local.secrets}/redis/${name}\" }}{{ .Data.data.password | sha256Hex }}{{ end }} resetchannels ${rights}"], [""]))
        uid                  = 50003
        gid                  = 50003
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "restart"
      }

      config {
        image      = var.redis_image
        force_pull = false
        args = [
          "redis-server",
          "--aclfile", "/secrets/users.acl",
          "--bind", "0.0.0.0", "--protected-mode", "no",
          "--dir", "/data", "--appendonly", "yes",
          # A queue that is full must refuse, not forget: a lost message is a task that hangs.
          "--maxmemory", "${floor(var.redis_memory * 0.75)}mb", "--maxmemory-policy", "noeviction",
        ]
        ports    = ["redis"]
        cap_drop = ["all"]
      }

      volume_mount {
        volume      = "data"
        destination = "/data"
      }

      resources {
        cpu        = 100                  # MHz: its share of a full node, no cap
        memory     = var.redis_memory     # its data, three quarters of it, and the process
        memory_max = var.redis_memory * 2 # the fork that rewrites the append-only file
      }
    }
  }
}

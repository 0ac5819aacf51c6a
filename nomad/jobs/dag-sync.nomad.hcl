# Brings the analysts' repository in every five minutes. Three tasks, and what each may do is its
# point: fetch has the network and the remote's login but runs nothing of what it fetches; judge runs it
# and has neither network, identity nor secrets; publish writes the mirror and believes only Nomad's
# word that judge ended well.

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

variable "analysts_remote" {
  type        = string
  description = "The analysts' repository, such as ssh://git@git.example.org/analytics/dags.git or https://git.example.org/analytics/dags.git"

  validation {
    condition     = regex_replace(var.analysts_remote, "^(ssh://[^@ ]+@[^ ]+|https://[A-Za-z0-9.-]+(:[0-9]+)?/[A-Za-z0-9._/~-]+)$", "ok") == "ok"
    error_message = "The remote is ssh://USER@HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, without a login."
  }
}

variable "analysts_branch" {
  type        = string
  description = "The branch that is delivered."
  default     = "main"

  validation {
    condition     = regex_replace(var.analysts_branch, "^[A-Za-z0-9][A-Za-z0-9_./-]*$", "ok") == "ok"
    error_message = "A branch is letters, digits, underscores, dots, slashes and hyphens."
  }
}

variable "forge" {
  type        = string
  description = "The server that is told the status of commits: none, github, gitlab or gitea (and Forgejo)."
  default     = "none"

  validation {
    condition     = contains(["none", "github", "gitlab", "gitea"], var.forge)
    error_message = "A forge is none, github, gitlab or gitea."
  }
}

variable "forge_url" {
  type        = string
  description = "The analysts' repository in the forge's API: https://HOST/…/repos/OWNER/NAME, or …/projects/ID."
  default     = "none"

  validation {
    condition     = regex_replace(var.forge_url, "^(none|https?://[^/ ]+/[^ ]+[^/ ])$", "ok") == "ok"
    error_message = "The address of the API is https://HOST/PATH, without a slash at its end, or none."
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

variable "author_mail_domains" {
  type        = list(string)
  description = "Domains of authors who get a mail when their push is refused, such as school.example; the server is in Vault at delivery/mail."
  default     = []

  validation {
    condition     = length([for name in var.author_mail_domains : name if regex_replace(name, "^[a-z0-9][a-z0-9.-]*\\.[a-z]+$", "ok") != "ok"]) == 0
    error_message = "A domain is lower-case letters, digits, hyphens and dots, such as school.example."
  }
}

variable "refusal_chat" {
  type        = bool
  description = "Whether a refused push is posted to a chat of Slack, Mattermost or Rocket.Chat, to the URL in Vault at delivery/chat."
  default     = false

  validation {
    condition     = var.refusal_chat == true || var.refusal_chat == false
    error_message = "It is true or false."
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

variable "environments" {
  type        = list(string)
  description = "The environments that the analysts' environments.toml may speak of, besides this one."
  default     = ["production", "staging"]

  validation {
    condition     = length([for name in var.environments : name if regex_replace(name, "^[a-z][a-z0-9-]*$", "ok") != "ok"]) == 0
    error_message = "An environment is lower-case letters, digits and hyphens."
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

variable "worker_queues" {
  type        = list(string)
  description = "The queues of the pools of workers: a job airflow-worker-<queue> each."
  default     = ["analysts"]

  validation {
    condition     = contains(var.worker_queues, "analysts")
    error_message = "The queue analysts is every task's that names none."
  }
}

locals {
  volumes = var.volume_prefix == "none" ? "" : var.volume_prefix
  secrets = "${var.vault_mount}/data/${var.environment}"
  https   = substr(var.analysts_remote, 0, 8) == "https://"
}

job "dag-sync" {
  namespace   = var.namespace
  datacenters = var.datacenters
  type        = "batch"

  periodic {
    crons            = ["*/5 * * * *"]
    time_zone        = "UTC"
    prohibit_overlap = true
  }

  group "dag-sync" {
    # The next round is five minutes away: a failed one is not repeated.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    volume "incoming" {
      type   = "host"
      source = "${local.volumes}dag-incoming"
    }

    volume "mirror" {
      type   = "host"
      source = "${local.volumes}dag-mirror"
    }

    task "fetch" {
      driver = "docker"
      user   = "50000:50000"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      vault {
        role         = "${var.environment}-dag-sync"
        env          = false
        disable_file = true
        change_mode  = "noop" # a new token brings the same secrets
      }

      dynamic "template" {
        for_each = local.https ? [] : ["deploy_key", "known_hosts"]

        content {
          destination          = "${NOMAD_SECRETS_DIR}/${template.value}"
          data                 = "{{ with secret \"${local.secrets}/delivery/remote\" }}{{ .Data.data.${template.value} }}{{ end }}"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
        }
      }

      # git's configuration, with the header that logs in at the remote and nowhere else.
      dynamic "template" {
        for_each = local.https ? [var.analysts_remote] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/git_config"
          data                 = "[http \"${template.value}\"]\nextraHeader = Authorization: Basic {{ with secret \"${local.secrets}/delivery/remote\" }}{{ printf \"%s:%s\" .Data.data.username .Data.data.token | base64Encode }}{{ end }}\n"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
        }
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/alerts"
        data                 = "{{ with secret \"${local.secrets}/delivery/alerts\" }}{{ .Data.data.webhook }}{{ end }}"
        uid                  = 50000
        gid                  = 50000
        perms                = "0400"
        error_on_missing_key = true
        change_mode          = "noop"
      }

      env {
        DELIVERY_REMOTE           = var.analysts_remote
        DELIVERY_BRANCH           = var.analysts_branch
        DELIVERY_KNOWN_HOSTS_FILE = "/secrets/known_hosts"
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["python", "-m", "delivery", "fetch"]
        cap_drop   = ["all"]
      }

      volume_mount {
        volume      = "incoming"
        destination = "/incoming"
      }

      # To see what was judged already; only publish writes here.
      volume_mount {
        volume      = "mirror"
        destination = "/mirror"
        read_only   = true
      }

      resources {
        cpu        = 200 # MHz: its share of a full node, no cap
        memory     = 256 # git unpacks at most 1 GiB, in pieces
        memory_max = 512
      }
    }

    # Process 1 is the platform's, as root with three capabilities; the analysts' code is imported
    # by its children as another user.
    task "judge" {
      driver       = "docker"
      user         = "root"
      kill_timeout = "10s"

      env {
        DELIVERY_QUEUES       = join(",", var.worker_queues)
        DELIVERY_ENVIRONMENTS = join(",", distinct(concat([var.environment], var.environments)))
        DELIVERY_CONTAINERS   = join(",", keys(var.container_images))
      }

      config {
        image        = var.airflow_image
        force_pull   = false
        entrypoint   = ["python", "-m", "frame.launcher", "--stranger=50009", "tini", "--"]
        args         = ["python", "-m", "delivery", "judge"]
        network_mode = "none"
        cap_drop     = ["all"]
        cap_add      = ["fowner", "setuid", "setgid", "kill"]
        security_opt = ["no-new-privileges"]
        pids_limit   = 256 # the children's own limit is 64 a user

        # Strangers' code finds no place to fill the disk from.
        readonly_rootfs = true

        mount {
          type   = "tmpfs"
          target = "/tmp"

          tmpfs_options {
            size = 67108864 # 64 MiB, in bytes
          }
        }
      }

      volume_mount {
        volume      = "incoming"
        destination = "/incoming"
        read_only   = true
      }

      resources {
        cpu        = 500  # MHz: its share of a full node, no cap
        memory     = 512  # one child at a time imports Airflow and a bundle
        memory_max = 2048 # a child may take 1 GiB of address space
      }
    }

    task "publish" {
      driver = "docker"
      user   = "50000:50000"

      lifecycle {
        hook = "poststop"
      }

      # Lets it read this job's allocations (nomad/acl/dag-sync-publish.policy.hcl), no more.
      identity {
        env  = false
        file = true
      }

      dynamic "vault" {
        for_each = var.forge == "none" && length(var.author_mail_domains) == 0 && !var.refusal_chat ? [] : [var.environment]

        content {
          role         = "${var.environment}-dag-sync-status"
          env          = false
          disable_file = true
          change_mode  = "noop" # a new token brings the same secrets
        }
      }

      dynamic "template" {
        for_each = var.forge == "none" ? [] : [var.forge]

        content {
          destination          = "${NOMAD_SECRETS_DIR}/forge_token"
          data                 = "{{ with secret \"${local.secrets}/delivery/forge\" }}{{ .Data.data.token }}{{ end }}"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
        }
      }

      dynamic "template" {
        for_each = length(var.author_mail_domains) == 0 ? [] : [var.environment]

        content {
          destination          = "${NOMAD_SECRETS_DIR}/mail_uri"
          data                 = "{{ with secret \"${local.secrets}/delivery/mail\" }}{{ .Data.data.conn_uri }}{{ end }}"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
        }
      }

      dynamic "template" {
        for_each = var.refusal_chat ? [var.environment] : []

        content {
          destination          = "${NOMAD_SECRETS_DIR}/chat_webhook"
          data                 = "{{ with secret \"${local.secrets}/delivery/chat\" }}{{ .Data.data.webhook }}{{ end }}"
          uid                  = 50000
          gid                  = 50000
          perms                = "0400"
          error_on_missing_key = true
          change_mode          = "noop"
        }
      }

      env {
        DELIVERY_FORGE        = var.forge
        DELIVERY_FORGE_URL    = var.forge_url
        DELIVERY_PAGES        = "${var.airflow_url}/delivery" # where a status leads
        DELIVERY_MAIL_DOMAINS = join(",", var.author_mail_domains)
      }

      config {
        image      = var.airflow_image
        force_pull = false
        args       = ["python", "-m", "delivery", "publish"]
        cap_drop   = ["all"]
      }

      volume_mount {
        volume      = "incoming"
        destination = "/incoming"
      }

      volume_mount {
        volume      = "mirror"
        destination = "/mirror"
      }

      resources {
        cpu    = 200 # MHz: its share of a full node, no cap
        memory = 256 # git packs at most 1 GiB, in pieces
      }
    }
  }
}

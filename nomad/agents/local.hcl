# One agent that is server and client, for one machine. The reference for a cluster is
# production.hcl beside this file; what differs is said there.
name       = "local"
region     = "global"
datacenter = "local"

# The Docker bridge: containers and this host reach the agent there, nothing outside does.
bind_addr = "172.17.0.1"

addresses {
  http = "127.0.0.1 172.17.0.1"
}

advertise {
  http = "172.17.0.1"
}

disable_update_check = true
log_level            = "INFO"

server {
  enabled          = true
  bootstrap_expect = 1
  job_gc_threshold = "24h"

  default_scheduler_config {
    # Lets a task pass its `memory` up to `memory_max` while the node has room.
    memory_oversubscription_enabled = true
  }
}

acl {
  enabled = true
  # Tokens of people end: 90 days. Nomad's own number is a day.
  token_max_expiration_ttl = "2160h"
}

# Nomad signs an identity for every task that asks for Vault; Vault checks it against the keys
# that Nomad publishes (JWKS), so no Vault token is stored in Nomad.
vault {
  enabled               = true
  address               = "http://172.17.0.1:8200"
  jwt_auth_backend_path = "jwt-nomad"

  default_identity {
    aud = ["vault.io"]
    ttl = "1h"
  }
}

client {
  enabled           = true
  network_interface = "docker0"
  # The slowest end of a task is a Celery worker's warm shutdown, which waits for running tasks.
  max_kill_timeout = "10m"
  # A finished allocation's logs go with it: enough of them stay to read last night's in the morning.
  # dag-sync alone makes 288 a day.
  gc_max_allocs = 500
  # What the jobs' `cpu` are shares of. Nomad reads clock speeds, which some virtual machines hide; on
  # one machine every job must fit, and shares only count while the processor is full.
  cpu_total_compute = 10000

  options = {
    # Clouds and Consul are not here; with AWS_CA_BUNDLE in the environment env_aws is even fatal.
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,cni"
    # Every job runs in Docker; a driver that is not there cannot be misused.
    "driver.allowlist" = "docker"
  }

  # Kept on disk by this host; scripts/local/agents.py adds a host_volume block for each in a file of
  # its own, because their paths depend on where the repository stands.
}

plugin "docker" {
  config {
    # Images are built on this host: a collected one could not be pulled again.
    gc {
      image = false
    }
    volumes {
      enabled = false
    }
    allow_privileged = false
    # What tasks with strangers' code begin with: to shut Nomad's folders to them (fowner), and to
    # run them as another user than the process that watches them.
    allow_caps = ["setuid", "setgid", "kill", "fowner"]
  }
}

telemetry {
  prometheus_metrics         = true
  publish_allocation_metrics = true
}

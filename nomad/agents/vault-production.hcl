# Vault for production: one of three servers, a reference beside the Nomad files. It runs outside of
# the Nomad that depends on it.
storage "raft" {
  path    = "/var/lib/vault"
  node_id = "vault-1" # its own on each server

  retry_join {
    leader_api_addr     = "https://vault-2.example.org:8200"
    leader_ca_cert_file = "/etc/vault.d/tls/ca.pem"
  }

  retry_join {
    leader_api_addr     = "https://vault-3.example.org:8200"
    leader_ca_cert_file = "/etc/vault.d/tls/ca.pem"
  }
}

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "/etc/vault.d/tls/vault.pem"
  tls_key_file    = "/etc/vault.d/tls/vault-key.pem"

  telemetry {
    # Prometheus reads it without a token; the network decides who gets here.
    unauthenticated_metrics_access = true
  }
}

api_addr     = "https://vault-1.example.org:8200"
cluster_addr = "https://vault-1.example.org:8201"

# No seal block: Shamir's, with several key shares kept apart. After a reboot people unseal it, and
# until then no task that needs a secret starts. Where a key service is at hand, a seal block does it.

# raft keeps its store memory-mapped: locking it all into memory would take the whole file. Turn swap
# off on the host instead.
disable_mlock = true

telemetry {
  prometheus_retention_time = "24h"
  disable_hostname          = true
}

# Vault reads Nomad's keys over HTTPS with this host's own trust store: Nomad's CA belongs into it.
# Turn the audit log on once: vault audit enable file file_path=/var/log/vault/audit.log

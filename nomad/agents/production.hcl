# The reference for a cluster: what every agent has, server and client alike. Beside it stands one of
# production-server.hcl and production-client.hcl, and on servers a file for the gossip key that no
# repository ever sees:
#
#   nomad agent -config=production.hcl -config=production-server.hcl -config=/etc/nomad.d/gossip.hcl
#   nomad agent -config=production.hcl -config=production-client.hcl
#
# A cluster that is there already needs from these files only what its own lack. local.hcl is the
# same for one machine, without TLS, as nothing of it leaves that machine.
region     = "global"
datacenter = "dc1"
data_dir   = "/var/lib/nomad"

bind_addr = "0.0.0.0"

disable_update_check = true
log_level            = "INFO"
log_json             = true

# `nomad tls ca create`, then `nomad tls cert create -server` or `-client` for each agent.
tls {
  http = true
  rpc  = true

  ca_file   = "/etc/nomad.d/tls/nomad-agent-ca.pem"
  cert_file = "/etc/nomad.d/tls/agent.pem"
  key_file  = "/etc/nomad.d/tls/agent-key.pem"

  # A certificate of this CA alone does not make a server: it must be one for server.global.nomad.
  # Without this any client could join as a server and read every job and variable.
  verify_server_hostname = true

  # RPC is mutual TLS always. The HTTPS API is not: Vault reads Nomad's public keys there
  # (/.well-known/jwks.json) and has no client certificate to show. What it takes to do anything
  # else is an ACL token. Set it to true only behind a proxy that serves that one path.
  verify_https_client = false
}

acl {
  enabled = true
  # Tokens of people end: 90 days. Nomad's own number is a day.
  token_max_expiration_ttl = "2160h"
}

# Nomad signs an identity for every task that asks for Vault; Vault checks it against the keys that
# Nomad publishes, so no Vault token is stored in Nomad. scripts/vault_setup.py makes the other side.
vault {
  enabled = true
  address = "https://vault.example.org:8200"
  # Left out where the system's own trust store knows the CA.
  ca_file = "/etc/nomad.d/tls/vault-ca.pem"
  # The login's mount; scripts/vault_setup.py and the workers' settings name the same one.
  jwt_auth_backend_path = "jwt-nomad"

  default_identity {
    aud = ["vault.io"] # what the roles are bound to
    ttl = "1h"         # Nomad renews it; a token that leaks is of no use for longer
  }
}

# Prometheus reads /v1/metrics?format=prometheus of every agent.
telemetry {
  prometheus_metrics         = true
  publish_allocation_metrics = true
  publish_node_metrics       = true
  collection_interval        = "10s"
}

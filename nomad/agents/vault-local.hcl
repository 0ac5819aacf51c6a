# One Vault for one machine, started from the repository's root and unsealed by scripts/local/agents.py.
storage "raft" {
  path    = ".local/vault"
  node_id = "local"
}

listener "tcp" {
  address         = "172.17.0.1:8200"
  cluster_address = "172.17.0.1:8201"
  # Plain HTTP never leaves this host's Docker bridge; production.hcl's Vault has TLS.
  tls_disable = true
}

api_addr     = "http://172.17.0.1:8200"
cluster_addr = "http://172.17.0.1:8201"

# raft keeps its store memory-mapped: locking it all into memory would take the whole file.
disable_mlock = true
ui            = true

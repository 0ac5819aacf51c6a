# A server: one of three, so that one may fail and two still agree. Read with production.hcl.

# The gossip key comes from a file of its own, mode 600, the same on every server:
#   server { encrypt = "…" }     # nomad operator gossip keyring generate
# It is read at the first start only; later it is changed by `nomad operator gossip keyring`.
server {
  enabled          = true
  bootstrap_expect = 3

  server_join {
    retry_join     = ["nomad-1.example.org", "nomad-2.example.org", "nomad-3.example.org"]
    retry_interval = "15s"
  }

  # Only for a new cluster; on one that runs:
  #   nomad operator scheduler set-config -memory-oversubscription=true
  default_scheduler_config {
    # The jobs' `memory` is what they need at rest, `memory_max` what a task, a parse or a
    # restore may take for a while. Without this a task is killed at `memory`.
    memory_oversubscription_enabled = true
  }

  # dag-sync leaves a job of its own behind every five minutes, a backup every night. With Nomad's
  # 4 hours nobody could read in the morning why a backup of 01:10 failed, or on Monday why the
  # gate refused a push on Friday. Logs go with the job, so ship them as well.
  job_gc_threshold        = "96h"
  batch_eval_gc_threshold = "96h"
}

# The keys that sign identities and encrypt Nomad's variables are in every `nomad operator snapshot
# save`, in clear with the default keyring: encrypt a snapshot before it leaves the server. A
# `keyring "transit"` block wraps them with a key in Vault instead, and then the servers need Vault
# to start; so keep Vault itself out of this Nomad.

# The platform team: runs, plans, forces and reads every job; no management of ACLs.
namespace "{{ namespace }}" {
  policy       = "read"
  capabilities = ["submit-job", "dispatch-job", "scale-job", "alloc-lifecycle", "read-logs"]
}

# What Airflow may launch: nomad/jobs/ingest.nomad.hcl.
namespace "{{ runs_namespace }}" {
  policy       = "read"
  capabilities = ["submit-job", "dispatch-job", "alloc-lifecycle", "read-logs"]
}

agent {
  policy = "read"
}

node {
  policy = "read"
}

operator {
  policy = "read"
}

# The jobs name host volumes; reading and writing them is the job's right, not the person's.
host_volume "*" {
  policy = "write"
}

# The analysts: see what runs and read its logs, nothing else.
namespace "{{ namespace }}" {
  capabilities = ["list-jobs", "read-job", "read-logs"]
}

# Their pipelines' runs are there.
namespace "{{ runs_namespace }}" {
  capabilities = ["list-jobs", "read-job", "read-logs"]
}

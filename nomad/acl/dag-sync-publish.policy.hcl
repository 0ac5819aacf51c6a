# For the task `publish` of the job `dag-sync` alone: it asks Nomad how `judge` ended.
namespace "{{ namespace }}" {
  capabilities = ["read-job"]
}

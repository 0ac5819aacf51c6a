# The analysts: see what runs and read its logs, nothing else.
namespace "default" {
  capabilities = ["list-jobs", "read-job", "read-logs"]
}

# Their pipelines' runs are there.
namespace "runs" {
  capabilities = ["list-jobs", "read-job", "read-logs"]
}

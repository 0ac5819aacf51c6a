# For the job `airflow-triggerer` alone: it runs, follows and stops the jobs that the platform team
# has put into this namespace. It can register none, and reads no files of theirs but their logs.
namespace "{{ runs_namespace }}" {
  capabilities = ["dispatch-job", "list-jobs", "read-job", "read-logs", "deregister-job"]
}

# For the task `webserver` of the job `airflow-webserver` alone, where `push_hook` is set: it starts a
# round of a periodic job, and looks whether one is under way.
namespace "{{ namespace }}" {
  capabilities = ["list-jobs", "read-job", "force-periodic-job"]
}

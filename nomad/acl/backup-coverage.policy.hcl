# For the job `backup-coverage` alone: it leaves a brief that Airflow's web server reads, by the right that
# every task has on variables of its own name.
namespace "{{ namespace }}" {
  variables {
    path "nomad/jobs/airflow-webserver/webserver/webserver" {
      capabilities = ["write"]
    }
  }
}

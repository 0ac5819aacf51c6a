path "{{ secrets }}/airflow/database/clean" {
  capabilities = ["read"]
}

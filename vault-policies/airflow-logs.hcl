path "{{ secrets }}/airflow/api" {
  capabilities = ["read"]
}

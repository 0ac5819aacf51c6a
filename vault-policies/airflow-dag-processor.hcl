path "{{ secrets }}/airflow/database/dag-processor" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/fernet" {
  capabilities = ["read"]
}

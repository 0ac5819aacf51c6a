path "{{ secrets }}/airflow/database/dag-processor" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/fernet" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/mirror" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/database/triggerer" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/fernet" {
  capabilities = ["read"]
}

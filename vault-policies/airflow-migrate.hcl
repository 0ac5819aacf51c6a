path "{{ secrets }}/airflow/database/migrate" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/fernet" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/admin" {
  capabilities = ["read"]
}

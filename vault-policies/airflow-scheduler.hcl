path "{{ secrets }}/airflow/database/scheduler" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/fernet" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/jwt" {
  capabilities = ["read"]
}

path "{{ secrets }}/redis/scheduler" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/alerts" {
  capabilities = ["read"]
}

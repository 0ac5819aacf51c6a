path "{{ secrets }}/airflow/database/webserver" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/fernet" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/jwt" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/api" {
  capabilities = ["read"]
}

path "{{ secrets }}/airflow/warehouse" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/mirror" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/push-hook" {
  capabilities = ["read"]
}

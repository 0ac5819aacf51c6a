path "{{ secrets }}/superset/database/dashboards" {
  capabilities = ["read"]
}

path "{{ secrets }}/superset/secret-key" {
  capabilities = ["read"]
}

path "{{ secrets }}/superset/warehouse" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/mirror" {
  capabilities = ["read"]
}

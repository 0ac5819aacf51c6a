path "{{ secrets }}/superset/database/web" {
  capabilities = ["read"]
}

path "{{ secrets }}/superset/secret-key" {
  capabilities = ["read"]
}

path "{{ secrets }}/superset/warehouse" {
  capabilities = ["read"]
}

path "{{ secrets }}/superset/oidc" {
  capabilities = ["read"]
}

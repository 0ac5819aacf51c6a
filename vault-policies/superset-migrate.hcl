path "{{ secrets }}/superset/database/migrate" {
  capabilities = ["read"]
}

path "{{ secrets }}/superset/secret-key" {
  capabilities = ["read"]
}

path "{{ secrets }}/superset/warehouse" {
  capabilities = ["read"]
}

path "{{ secrets }}/superset/admin" {
  capabilities = ["read"]
}

path "{{ secrets }}/superset/oidc" {
  capabilities = ["read"]
}

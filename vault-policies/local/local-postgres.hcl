path "{{ secrets }}/local/postgres" {
  capabilities = ["read"]
}

path "{{ secrets }}/local/b2" {
  capabilities = ["read"]
}

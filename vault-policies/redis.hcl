path "{{ secrets }}/redis/*" {
  capabilities = ["read"]
}

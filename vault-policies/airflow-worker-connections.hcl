path "{{ secrets }}/connections/analysts/*" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/forge" {
  capabilities = ["read"]
}

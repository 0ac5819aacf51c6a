path "{{ secrets }}/delivery/remote" {
  capabilities = ["read"]
}

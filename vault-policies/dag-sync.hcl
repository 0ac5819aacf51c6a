path "{{ secrets }}/delivery/remote" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/alerts" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/forge" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/mail" {
  capabilities = ["read"]
}

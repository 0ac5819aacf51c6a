path "{{ secrets }}/delivery/chat" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/forge" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/mail" {
  capabilities = ["read"]
}

path "{{ secrets }}/local/git" {
  capabilities = ["read"]
}

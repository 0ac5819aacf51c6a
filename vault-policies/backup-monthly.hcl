path "{{ secrets }}/backup/b2/copier" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/signers" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/alerts" {
  capabilities = ["read"]
}

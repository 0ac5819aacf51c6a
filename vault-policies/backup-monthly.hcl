path "{{ secrets }}/backup/b2/copier" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/signers" {
  capabilities = ["read"]
}

# It opens manifests, and no dump.
path "{{ secrets }}/backup/manifest-key" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/alerts" {
  capabilities = ["read"]
}

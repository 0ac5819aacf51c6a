path "{{ secrets }}/backup/servers/*" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/b2/drill" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/alerts" {
  capabilities = ["read"]
}

# Public keys, to see until when they serve.
path "{{ secrets }}/backup/recipients" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/manifest-recipient" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/signers" {
  capabilities = ["read"]
}

# It opens manifests, and no dump.
path "{{ secrets }}/backup/manifest-key" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/b2/writer" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/recipients" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/manifest-recipient" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/signing/{{ snapshot }}" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/alerts" {
  capabilities = ["read"]
}

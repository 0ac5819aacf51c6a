path "{{ secrets }}/backup/b2/drill" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/b2/drill-results" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/drill-key" {
  capabilities = ["read"]
}

# It signs the reports.
path "{{ secrets }}/backup/signing/restore-drill" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/signers" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/alerts" {
  capabilities = ["read"]
}

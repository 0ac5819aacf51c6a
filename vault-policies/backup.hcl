path "{{ secrets }}/backup/databases/{{ database }}" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/b2/writer" {
  capabilities = ["read"]
}

path "{{ secrets }}/backup/recipients" {
  capabilities = ["read"]
}

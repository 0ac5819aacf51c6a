path "{{ secrets }}/redis/worker-{{ queue }}" {
  capabilities = ["read"]
}

path "{{ secrets }}/connections/analysts/*" {
  capabilities = ["read"]
}

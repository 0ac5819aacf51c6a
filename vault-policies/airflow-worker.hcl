path "{{ secrets }}/redis/worker-{{ queue }}" {
  capabilities = ["read"]
}

path "{{ secrets }}/connections/{{ queue }}/*" {
  capabilities = ["read"]
}

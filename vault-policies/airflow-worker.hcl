path "{{ secrets }}/redis/worker-{{ queue }}" {
  capabilities = ["read"]
}

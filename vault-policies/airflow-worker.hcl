path "{{ secrets }}/redis/worker-{{ queue }}" {
  capabilities = ["read"]
}

path "{{ secrets }}/delivery/mirror" {
  capabilities = ["read"]
}

path "{{ secrets }}/containers/{{ container }}" {
  capabilities = ["read"]
}

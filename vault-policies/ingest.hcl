# {% for path in paths %}
path "{{ secrets }}/{{ path }}" {
  capabilities = ["read"]
}
# {% endfor %}

path "{{ secrets }}/delivery/mirror" {
  capabilities = ["read"]
}

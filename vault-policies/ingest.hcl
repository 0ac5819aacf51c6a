# {% for path in paths %}
path "{{ secrets }}/{{ path }}" {
  capabilities = ["read"]
}
# {% endfor %}

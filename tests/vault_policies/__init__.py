"""The policies and roles of vault-policies, against the job files and in a Vault of their own."""

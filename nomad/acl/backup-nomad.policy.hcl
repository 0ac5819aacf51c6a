# For the job `backup-nomad` alone: it saves a snapshot of Nomad's state, and may do nothing else.
operator {
  capabilities = ["snapshot-save"]
}

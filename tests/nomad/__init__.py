"""The job files, rendered as Nomad would take them, against a table that is written out."""

"""Runs the analysts' dbt project beside what readers see, and publishes what is sound.

It flows one way: :mod:`transform.build` runs dbt into a schema of its own and keeps what it wrote,
:mod:`transform.results` says of each mart whether it is sound, and :mod:`transform.publish` moves
the sound ones in front of readers.
"""

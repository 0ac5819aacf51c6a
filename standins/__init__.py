"""What stands in for what a cluster already has: the B2 endpoint and a school's databases.

Local jobs, tests and bench use them; no production job does.
"""

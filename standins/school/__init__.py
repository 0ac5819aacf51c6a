"""A Ghanaian senior high school's three source databases, generated: the same seed, the same bytes.

``load.load`` fills an empty PostgreSQL 15 database, ``mutate.mutate`` makes one school day's
changes in it, and ``python -m standins.school`` offers both on the command line. Nobody in it
exists.
"""

"""The operators' scripts, on real processes, sockets and files."""

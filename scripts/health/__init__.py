"""How the jobs are: observed at Nomad, judged by rules on plain data, and waited for."""

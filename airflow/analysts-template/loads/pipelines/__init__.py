"""Which source goes into which schema; `python -m loads.pipelines.NAME` runs one."""

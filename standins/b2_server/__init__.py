"""A Backblaze B2 endpoint for tests: B2's native API, version 4, as b2sdk calls it.

It needs starlette, uvicorn and typer only, and imports nothing of the repository, so that the
folder alone can be copied into an image. A job that talks to it differs from production by one
value, the realm's URL.
"""

"""The command line: ``python -m standins.b2_server``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from .app import build
from .injector import AbortableProtocol
from .service import CredentialsError, Options, Service, read_credentials

# Above b2sdk's idle times, so that a pooled connection is never closed under a new request.
_KEEP_ALIVE_SECONDS = 75
# A stop waits this long for uploads on their way.
_SHUTDOWN_SECONDS = 2
# B2 recommends parts of 100 MB where it takes 5 MB.
_RECOMMENDED_OVER_MINIMUM = 20

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def serve(
    *,
    data: Annotated[Path, typer.Option(help="Directory of all files and metadata. Made if new.")],
    credentials: Annotated[
        Path,
        typer.Option(help='JSON file of the master key: {"account_id", "key_id", "key"}.'),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 9180,
    minimum_part_size: Annotated[
        int, typer.Option(min=1, help="Smallest part but the last, in bytes. 5000000 is B2's own.")
    ] = 5_000_000,
    recommended_part_size: Annotated[
        int | None, typer.Option(min=1, help="In bytes. 20 times the minimum if not given.")
    ] = None,
    token_lifetime: Annotated[
        int, typer.Option(min=1, help="Seconds until an account token expires, by the clock.")
    ] = 24 * 3600,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file; the server then speaks https.")
    ] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
) -> None:
    """Serve Backblaze B2's native API v4 for tests, from a directory.

    Point b2sdk at it by the realm, and at nothing else:

        B2Api(InMemoryAccountInfo()).authorize_account(application_key_id=ID,
        application_key=KEY, realm="http://HOST:PORT")

    All data lives in --data and survives a restart. Keys other than the master key are made by
    b2_create_key. With the master key as Basic authorisation, tests may also use

        POST /harmattan-test/clock {"advance_seconds": 86400}: moves the clock, which the header
        Date of every answer follows, and applies the lifecycle rules; {"reset": true} sets it back;

        POST /harmattan-test/faults {"faults": [{"operation": "upload_part", "kind": "status",
        "status": 503}]}: sets the faults that calls meet (kinds: status, delay, close,
        close_mid_body, hang, hang_mid_body, lose_answer, empty_answer, wrong_sha1, flip_bit,
        truncate).

    GET /harmattan-test/health answers 200 to everyone. Prints one line with its address when it
    listens. Exit codes: 1 failed, 2 wrong use; a stop ends it by the signal that stopped it.
    """
    try:
        master = read_credentials(credentials)
    except CredentialsError as error:
        raise typer.BadParameter(str(error)) from error
    options = Options(
        minimum_part_size,
        recommended_part_size or _RECOMMENDED_OVER_MINIMUM * minimum_part_size,
        token_lifetime,
    )
    config = uvicorn.Config(
        build(Service(data, master, options)),
        host=host, port=port, http=AbortableProtocol, lifespan="off", ws="none",
        log_level="warning", access_log=False, server_header=False, date_header=False,
        ssl_certfile=certificate, ssl_keyfile=private_key,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )  # fmt: skip
    listening = config.bind_socket()
    listening.listen(config.backlog)
    scheme = "https" if config.is_ssl else "http"
    typer.echo(f"listening on {scheme}://{host}:{listening.getsockname()[1]}")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    app()

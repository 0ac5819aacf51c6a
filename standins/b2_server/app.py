"""The routes, and how answers and errors are put."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import admin, downloads
from .errors import B2Error, Json, bad_request
from .fields import Fields
from .injector import FaultInjector
from .operations import OPERATIONS
from .uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp

    from .service import Service

_VERSION = "v4"
# The longest body is that of a finish with 10,000 SHA-1s: 450 kB.
_MAX_JSON_BYTES = 4 * 1024 * 1024


def build(service: Service) -> ASGIApp:
    """Return the application, faults included."""
    uploads = Uploads(service)

    async def call(request: Request) -> Json:
        operation = OPERATIONS.get(request.path_params["operation"])
        if operation is None:
            raise bad_request(f"Invalid API name: b2_{request.path_params['operation']}")
        key, _ = service.bearer(request.headers.get("authorization"), "account")
        return _absolute(request, operation(service, key, Fields(await _body(request))))

    async def authorize(request: Request) -> Json:
        return authorized(service, request)

    async def health(_: Request) -> Json:
        return {"status": "ok"}

    async def by_id(request: Request) -> Response:
        return await downloads.by_id(service, request)

    async def by_name(request: Request) -> Response:
        return await downloads.by_name(service, request)

    async def administer(request: Request) -> Json:
        return await admin.serve(service, request)

    api = f"/b2api/{_VERSION}"
    routes = [
        Route(f"{api}/b2_authorize_account", _json(authorize), methods=["GET", "POST"]),
        Route(f"{api}/b2_upload_file/{{target}}/{{slot}}", _json(uploads.file), methods=["POST"]),
        Route(f"{api}/b2_upload_part/{{target}}/{{slot}}", _json(uploads.part), methods=["POST"]),
        Route(f"{api}/b2_download_file_by_id", by_id),
        Route(f"{api}/b2_{{operation}}", _json(call), methods=["POST"]),
        Route("/file/{bucket}/{name:path}", by_name),
        Route("/harmattan-test/health", _json(health)),
        Route("/harmattan-test/{what}", _json(administer), methods=["GET", "POST"]),
        Route("/{path:path}", _json(_unknown), methods=["GET", "POST"]),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={B2Error: _refuse, ClientDisconnect: _gone, Exception: _broken},
    )
    return FaultInjector(app, service)


def authorized(service: Service, request: Request) -> Json:
    """b2_authorize_account: exchange an application key for a token."""
    now_ms = service.clock.now_ms()
    key = service.keys.proven(*admin.basic_credentials(request), now_ms)
    token = service.tokens.give(
        "account", expires_ms=service.expiry_ms(key, service.options.token_lifetime),
        key=key.key_id,
    )  # fmt: skip
    buckets = None
    if key.bucket_ids is not None:
        names = {bucket.bucket_id: bucket.name for bucket in service.buckets.all()}
        buckets = [{"id": each, "name": names.get(each)} for each in key.bucket_ids]
    base = _base(request)
    storage = {
        "absoluteMinimumPartSize": service.options.minimum_part_size,
        "allowed": {
            "buckets": buckets,
            "capabilities": list(key.capabilities),
            "namePrefix": key.name_prefix,
        },
        "apiUrl": base,
        "downloadUrl": base,
        "infoType": "storageApi",
        "recommendedPartSize": service.options.recommended_part_size,
        "s3ApiUrl": f"{base}/there-is-no-s3-here",
    }
    return {
        "accountId": service.account_id,
        "apiInfo": {"storageApi": storage},
        "applicationKeyExpirationTimestamp": key.expires_ms,
        "authorizationToken": token,
    }


def _base(request: Request) -> str:
    """Return the address by which the client reached this server."""
    return str(request.base_url).rstrip("/")


def _absolute(request: Request, answer: Json) -> Json:
    if "uploadUrl" in answer:
        answer["uploadUrl"] = _base(request) + answer["uploadUrl"]
    return answer


async def _body(request: Request) -> Json:
    text = b""
    async for chunk in request.stream():
        text += chunk
        if len(text) > _MAX_JSON_BYTES:
            raise bad_request("the body is too long for this call")
    try:
        body = json.loads(text or b"{}")
    except ValueError as error:
        raise bad_request("the body is not JSON", "bad_json") from error
    if not isinstance(body, dict):
        raise bad_request("the body is not a JSON object", "bad_json")
    return body


def _json(
    handler: Callable[[Request], Awaitable[Json]],
) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        return JSONResponse(await handler(request), headers={"Cache-Control": "no-store"})

    return respond


async def _unknown(request: Request) -> Json:
    raise bad_request(
        f"Invalid path: {request.url.path} - this server speaks B2's native API {_VERSION} only"
    )


async def _refuse(_: Request, error: Exception) -> Response:
    if not isinstance(error, B2Error):
        raise error
    return JSONResponse(error.body(), error.status, error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)


async def _broken(_: Request, error: Exception) -> Response:
    body = B2Error(500, "internal_error", f"this server has a bug: {type(error).__name__}").body()
    return JSONResponse(body, 500)

"""What a request that cannot be answered is answered, in the words of OpenAI's API."""

import json
import logging
import secrets
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from storylm.config.errors import UserError
from storylm.serve.guard import error_body

log = logging.getLogger("storylm.serve")
RETRY_SECONDS = "2"
EXPECTED = {  # by field, where pydantic has something to say of each kind of thing that it may be
    "prompt": "give a text, token ids from 0 on, or a list of up to 64 of either, none of them empty",
    "stop": "give a text of 1 to 256 characters, or a list of up to 16 of them",
}
SAID = {
    "missing": "is missing",
    "model_attributes_type": "the body is no JSON object",
    "extra_forbidden": "there is no such field: see /openapi.json",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
REFUSALS = {
    400: "the request cannot be understood, or does not fit the model",
    401: "the key is missing or wrong",
    404: "there is no such model or path",
    413: "the body is too large",
    415: "the body is no JSON",
    429: "too much is on its way: come again after `Retry-After` seconds",
    500: "a fault of the server, whose log has the `id` in the message",
    503: "no slot became free in time",
}


class ApiError(Exception):
    """An answer that is an error, as `guard.error_body` tells it."""

    def __init__(self, status: int, code: str, message: str, parameter: str | None = None):
        self.status, self.body = status, error_body(status, code, message, parameter)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These errors as OpenAPI describes responses; all of them where none is named."""
    content = {"application/json": {"schema": ERROR}}
    return {status: {"description": REFUSALS[status], "content": content} for status in statuses or REFUSALS}


def handle_errors(app: FastAPI) -> None:
    """Answer whatever goes wrong in one shape."""
    app.add_exception_handler(ApiError, lambda _, error: respond(error.body, error.status))  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(UserError, _misused)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _refused)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _failed)


def respond(content: Any, status: int = 200) -> Response:
    """JSON in ASCII, which any text can be told in. Who is turned away is told when to come again."""
    headers = {"retry-after": RETRY_SECONDS} if status in (429, 503) else None
    return Response(json.dumps(content), status, headers, media_type="application/json")


def _invalid(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = first["loc"][1] if len(first["loc"]) > 1 else None
    if first["type"] == "json_invalid":
        said = f"the body is no JSON: {first['ctx']['error']}, at character {where}"
        where = None
    elif where in EXPECTED:
        said = EXPECTED[where]
    else:
        said = SAID.get(str(first["type"]), str(first["msg"]).removeprefix("Value error, "))
    if where is None and first["type"] == "missing":
        said = "the body is missing"
    return respond(error_body(400, "invalid_request", f"{where}: {said}" if where else said, where), 400)


def _refused(_: Request, error: HTTPException) -> Response:
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    response = respond(error_body(error.status_code, code, str(error.detail)), error.status_code)
    response.headers.update(error.headers or {})
    return response


def _misused(_: Request, error: UserError) -> Response:
    return respond(error_body(400, "invalid_value", str(error)), 400)


def _failed(_: Request, error: Exception) -> Response:
    number = secrets.token_hex(8)
    log.error("error %s", number, exc_info=error)
    return respond(error_body(500, "internal_error", f"{REFUSALS[500]}: {number}"), 500)

"""The operators' application over HTTP: one page, JSON with a documented schema, and metrics for Prometheus."""

from http import HTTPStatus
from math import ceil
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel
from starlette.middleware.base import RequestResponseEndpoint

from serve_app.ops import report
from serve_app.ops.collector import Collector
from serve_app.ops.history import HistoryError
from serve_app.ops.login import COOKIE, SESSION_S, Login, TooManyGuessesError
from serve_app.ops.prometheus import OpsMetrics
from serve_app.ops.windows import WINDOWS, Window
from serve_app.prompt.validation import briefly

PAGE_FOLDER = Path(__file__).parent / "page"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
MAX_ADDRESS_CHARS = 45
"""The longest IPv6 address. What a client sends in place of one may be longer, and is kept for a while."""
MAX_QUOTED_CHARS = 20


class Credentials(BaseModel):
    """What the page's form sends."""

    token: str


WindowName = Annotated[str, Query(description=f"How far to look back: {', '.join(WINDOWS)}")]


def build(collector: Collector, login: Login) -> FastAPI:
    """The web application; its paths are below the route prefix."""
    app = FastAPI(title="Warmroute operations", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")

    async def admitted(request: Request) -> None:  # in one thread, as the login wants it
        if not login.admits(request.headers, request.cookies, address=_address(request)):
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED, "log in, or send the operators' token as `Authorization: Bearer ...`"
            )

    @app.middleware("http")
    async def add_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request) if login.fault is None else _closed(login.fault)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(HistoryError)
    async def no_history(_: Request, error: HistoryError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)

    @app.exception_handler(TooManyGuessesError)
    async def wait(_: Request, error: TooManyGuessesError) -> JSONResponse:
        headers = {"retry-after": str(ceil(error.wait_s))}
        return JSONResponse({"detail": str(error)}, HTTPStatus.TOO_MANY_REQUESTS, headers)

    @app.exception_handler(RequestValidationError)
    async def not_understood(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": briefly(error.errors())}, HTTPStatus.UNPROCESSABLE_ENTITY)

    app.include_router(_page())
    app.include_router(_logging_in(login))
    app.include_router(_figures(collector), dependencies=[Depends(admitted)])
    return app


def _closed(fault: str) -> JSONResponse:
    return JSONResponse({"detail": fault}, HTTPStatus.FORBIDDEN)


def _address(request: Request) -> str:
    """The address that a request comes from, by the last proxy's header, which is the client's own without such a
    proxy; HAProxy under Ray Serve adds nothing to it.
    """
    forwarded = request.headers.getlist("x-forwarded-for")
    peer = request.client.host if request.client else ""
    return (forwarded[-1].rpartition(",")[2].strip() if forwarded else peer)[:MAX_ADDRESS_CHARS]


def _page() -> APIRouter:
    """The page without figures, so that it can ask for the token."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index() -> FileResponse:
        return FileResponse(PAGE_FOLDER / "index.html")

    @router.get("/page.{kind}")
    async def asset(kind: Literal["js", "css"]) -> FileResponse:
        return FileResponse(PAGE_FOLDER / f"page.{kind}")

    return router


def _logging_in(login: Login) -> APIRouter:
    router = APIRouter()

    @router.post("/api/login", status_code=HTTPStatus.NO_CONTENT)
    async def log_in(credentials: Credentials, request: Request, response: Response) -> None:
        """The operators' token for a cookie, which is good for some hours."""
        if not login.takes(credentials.token, address=_address(request)):
            raise HTTPException(HTTPStatus.UNAUTHORIZED, "this is not the operators' token")
        response.set_cookie(
            COOKIE,
            login.new_cookie(),
            max_age=SESSION_S,
            path=request.scope.get("root_path") or "/",
            secure=request.headers.get("x-forwarded-proto", request.url.scheme) == "https",
            httponly=True,
            samesite="strict",
        )

    return router


def _figures(collector: Collector) -> APIRouter:
    router = APIRouter()

    @router.get("/api/overview")
    async def overview(window: WindowName = "5m") -> report.Overview:
        """Replicas, funnel and hot prefixes of every application, as they are now and over the window."""
        chosen = _window(window)
        series_to_totals = await collector.ask(lambda history: history.totals(chosen, now_s=collector.now_s)) or {}
        return report.Overview(
            read_at_s=collector.read_at_s,
            window=window,
            fault=collector.fault,
            applications=[
                report.application_report(
                    name,
                    snapshots,
                    collector.application_to_prefixes.get(name, ()),
                    series_to_totals,
                )
                for name, snapshots in collector.application_to_snapshots.items()
                if snapshots
            ],
        )

    @router.get("/api/history")
    async def history(application: str, window: WindowName = "1h") -> report.HistoryReport:
        """One application's figures over the window, bucket by bucket; days are of UTC."""
        chosen, now_s = _window(window), collector.now_s
        start_to_totals = await collector.ask(lambda past: past.buckets(application, chosen, now_s=now_s)) or {}
        return report.HistoryReport(
            application=application,
            window=window,
            bucket_s=chosen.span.length_s,
            start_s=chosen.start(now_s),
            end_s=int(now_s),
            buckets=[
                report.Bucket(start_s=start_s, figures=report.figures(totals))
                for start_s, totals in start_to_totals.items()
            ],
        )

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """For Prometheus: counters of all time, and replicas as they are now."""
        series_to_totals = await collector.ask(lambda history: history.totals(None, now_s=collector.now_s)) or {}
        registry = CollectorRegistry()
        registry.register(OpsMetrics(collector.application_to_snapshots, series_to_totals))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _window(name: str) -> Window:
    if name not in WINDOWS:
        quoted = repr(name[:MAX_QUOTED_CHARS])
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"window = {quoted}: it is one of {', '.join(WINDOWS)}")
    return WINDOWS[name]

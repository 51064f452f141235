"""Airflow's UI shows the page "Tieout": thin, the page itself is built by ``tieout.pages``.

A plugin's app has no authentication of its own: the dependency below lets in whoever may see Airflow's website.
"""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

# The page is text and tables: nothing in it may run, load or be framed by another site.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

app = FastAPI(
    title="Tieout",
    dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
    # Their routes would be added outside the dependency: no schema, no documentation for strangers.
    openapi_url=None,
    docs_url=None,
    redoc_url=None,
)


def page_connection() -> str:
    """The connection that the page reads by: the reader's when there is one, else the loader's."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from tieout.operators import LOADER, READER

    try:
        BaseHook.get_connection(READER)
    except AirflowNotFoundException:
        return LOADER
    return READER


@app.get("/", response_class=HTMLResponse)
def page() -> HTMLResponse:
    """The head close, its proof, its open breaks, and the incidents."""
    from airflow.sdk.exceptions import AirflowException

    from tieout.operators import warehouse
    from tieout.pages import tieout_page

    conn_id = page_connection()
    try:
        with warehouse(conn_id) as connection:
            return HTMLResponse(tieout_page(connection), headers=HEADERS)
    except AirflowException:
        # The reason may name hosts and users: it stays in the server's log.
        import logging

        logging.getLogger(__name__).exception("the page cannot reach the warehouse")
        said = f"<p>The warehouse cannot be reached over the connection <b>{conn_id}</b>; the log says why.</p>"
        return HTMLResponse(said, status_code=503, headers=HEADERS)


class TieoutPlugin(AirflowPlugin):
    """Mounts the page and puts it into the navigation."""

    name = "tieout"
    fastapi_apps = [{"app": app, "url_prefix": "/tieout", "name": "Tieout"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Tieout", "href": "/tieout/", "destination": "nav", "url_route": "tieout", "nav_top_level": True}
    ]

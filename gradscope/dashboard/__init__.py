"""The page over saved runs, live while they grow. The only folder that imports Dash.

app.py        the app: shell, pages, guard
server.py     serves it on this machine
pages/        one file a page: its layout and its callbacks
parts/        what pages are made of, one file a part
figures/      one file a figure: `…_data` computes plain values, `draw_…` draws them
"""

from gradscope.dashboard.app import create_app
from gradscope.dashboard.server import serve

__all__ = ["create_app", "serve"]

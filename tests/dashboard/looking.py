"""What a test asks of a page's map: where a cell is on the screen, what colour it has, what it says."""

from __future__ import annotations

import zlib

from playwright.sync_api import Page


def place(page: Page, layer: str, step: float) -> tuple[float, float]:
    """The middle of a cell, in pixels of the window."""
    page.locator(".map-graph").scroll_into_view_if_needed()
    x, y = page.evaluate(
        """([layer, step]) => {
            const plot = document.querySelector('.map-graph .js-plotly-plot');
            const {xaxis, yaxis2} = plot._fullLayout, box = plot.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(step), box.top + yaxis2._offset + yaxis2.d2p(layer)];
        }""",
        [layer, step],
    )
    return x, y


def colour(page: Page, layer: str, step: float) -> tuple[int, int, int]:
    """The colour of a cell, from a picture of the page."""
    x, y = place(page, layer, step)
    return pixel(page, x, y)


def pixel(page: Page, x: float, y: float) -> tuple[int, int, int]:
    """The colour of a place in the window, from a picture of the page."""
    picture = page.screenshot(clip={"x": round(x), "y": round(y), "width": 1, "height": 1})
    position, packed = 8, b""
    while position < len(picture):  # a PNG: length, name, content and checksum of each chunk
        length, name = int.from_bytes(picture[position : position + 4], "big"), picture[position + 4 : position + 8]
        packed += picture[position + 8 : position + 8 + length] if name == b"IDAT" else b""
        position += length + 12
    _, red, green, blue = zlib.decompress(packed)[:4]
    return red, green, blue


def near(one: tuple[int, int, int], hex_colour: str, distance: int = 24) -> bool:
    """Whether a colour is one of the theme's, but for the blending of neighbours."""
    other = [int(hex_colour[i : i + 2], 16) for i in (1, 3, 5)]
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= distance


def tooltip(page: Page, layer: str, step: float) -> str:
    """What the map says of a cell under the mouse."""
    page.mouse.move(5, 5)
    x, y = place(page, layer, step)
    page.mouse.move(x - 2, y)
    page.mouse.move(x, y, steps=2)
    page.wait_for_selector(".map-graph .hoverlayer .hovertext")
    lines = page.locator(".map-graph .hoverlayer .hovertext tspan.line")
    return (
        "\n".join(lines.all_text_contents())
        if lines.count()
        else page.locator(".map-graph .hoverlayer").text_content() or ""
    )


def ranges(page: Page) -> list[list[float]]:
    """What the step axis and the layer axis show."""
    shown: list[list[float]] = page.evaluate(
        "() => ['xaxis', 'yaxis2'].map(a => document.querySelector('.map-graph .js-plotly-plot')._fullLayout[a].range)"
    )
    return shown

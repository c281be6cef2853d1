"""A small drawing for a lesson, as SVG text: boxes, lines and words in a scheme's colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gradscope.reports.theme import FONT, Theme

WIDTH = 560  # of a drawing; the page scales it
Point = tuple[float, float]


class Drawing:
    """Collects shapes; `svg` gives the image.

    Example:
        >>> from gradscope.reports.theme import LIGHT
        >>> Drawing(LIGHT, 40).box(0, 0, 10, 10).svg()[:4]
        '<svg'
    """

    def __init__(self, theme: Theme, height: float) -> None:
        self.theme, self.height = theme, height
        self.colours = (theme.first_line, theme.second_line, theme.third_line, theme.dimmed)
        self._shapes: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        words: str,
        anchor: str = "start",
        colour: str = "",
        size: float = 13,
        bold: bool = False,
    ) -> Drawing:
        """Words whose baseline is at `y`; `anchor` is "start", "middle" or "end"."""
        weight = ' font-weight="650"' if bold else ""
        self._shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight} '
            f'fill="{colour or self.theme.text}">{escape(words)}</text>'
        )
        return self

    def line(
        self, points: Sequence[Point], colour: str = "", width: float = 1, dash: str = "", arrow: bool = False
    ) -> Drawing:
        """Joined points; `dash` as in SVG; `arrow` puts a tip on the last one."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        colour = colour or self.theme.line
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed} '
            f'stroke-linejoin="round"/>'
        )
        if arrow:
            self._tip(points[-2], points[-1], colour)
        return self

    def _tip(self, before: Point, at: Point, colour: str) -> None:
        (x0, y0), (x, y) = before, at
        length = max(((x - x0) ** 2 + (y - y0) ** 2) ** 0.5, 1e-9)
        dx, dy = (x - x0) / length, (y - y0) / length
        tip = [(x, y), (x - 8 * dx + 4 * dy, y - 8 * dy - 4 * dx), (x - 8 * dx - 4 * dy, y - 8 * dy + 4 * dx)]
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in tip)
        self._shapes.append(f'<polygon points="{corners}" fill="{colour}"/>')

    def box(
        self, x: float, y: float, width: float, height: float, fill: str = "none", edge: str = "none", radius: float = 0
    ) -> Drawing:
        """A rectangle."""
        self._shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0):.1f}" rx="{radius}" '
            f'fill="{fill}" stroke="{edge}"/>'
        )
        return self

    def dot(self, x: float, y: float, colour: str, radius: float = 4, hollow: bool = False) -> Drawing:
        """A round mark."""
        fill = self.theme.card if hollow else colour
        self._shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{colour}" stroke-width="1.6"/>'
        )
        return self

    def svg(self) -> str:
        """The image."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:.0f}" width="{WIDTH}" '
            f'height="{self.height:.0f}" font-family="{escape(FONT)}">{"".join(self._shapes)}</svg>'
        )

"""The report as one page of HTML: no script, nothing loaded, to be mailed, printed and kept.

page.py      the page as a whole
skeleton.py  what every page is in
data.py      everything on it, as plain values
findings.py  when, where, why, what to do, and whether it helped
map.py       layers and steps as a picture
lines.py     loss and gradient norm above it
style.py     the colours and the style sheet
text.py      text that is safe in HTML
"""

from gradscope.reports.html.page import render

__all__ = ["render"]

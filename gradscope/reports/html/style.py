"""How the page of a report looks: light and dark as the reader's system says, and on paper."""

from __future__ import annotations

from gradscope.reports.palette_png import gradient
from gradscope.reports.theme import DARK, FONT, LIGHT, MONO, Theme

# The dashboard's own, see assets/gradscope.css.
_LIGHT = {"page": "#F6F7F9", "line": "#D9DEE5", "link": "#1A49C8", "ok": "#0F7F68"}
_LIGHT |= {"error-wash": "#FBEFF1", "warning-wash": "#FBF4E9", "note-wash": "#EEF2FD", "ok-wash": "#EDF7F4"}
_DARK = {"page": "#14171C", "line": "#2E3540", "link": "#9DB4F2", "ok": "#2BD9B5"}
_DARK |= {"error-wash": "#26171B", "warning-wash": "#251F16", "note-wash": "#191D2A", "ok-wash": "#142320"}


def variables(theme: Theme, more: dict[str, str]) -> dict[str, str]:
    """The colours of one scheme by the names of their variables."""
    return {
        **more,
        "card": theme.card,
        "text": theme.text,
        "dimmed": theme.dimmed,
        **{str(severity): colour for severity, colour in theme.severity.items()},
        "first-line": theme.first_line,
        "second-line": theme.second_line,
        "third-line": theme.third_line,
        "scale": gradient(theme.diverging),
        "zero": theme.diverging[0],
        "not-recorded": theme.not_recorded,
        "non-finite": theme.non_finite,
    }


def style() -> str:
    """The style sheet."""
    light, dark = (
        " ".join(f"--{name}: {colour};" for name, colour in variables(theme, more).items())
        for theme, more in ((LIGHT, _LIGHT), (DARK, _DARK))
    )
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"body {{ font: 14px/1.5 {FONT}; }}\ncode, pre, .mono {{ font-family: {MONO}; }}\n{_RULES}"
    )


_RULES = """\
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font-variant-numeric: tabular-nums; }
main { max-width: 1100px; margin: 0 auto; padding: 20px 16px 32px; }
h1, h2, h3, p, dl, dd, ol, ul, figure { margin: 0; }
h1, h3 { text-wrap: pretty; } h1 { font-size: 22px; line-height: 1.3; font-weight: 700; color: var(--text); }
h2 { font-size: 15px; font-weight: 700; margin: 24px 0 8px; }
h3 { font-size: 16px; line-height: 1.35; font-weight: 650; margin: 2px 0 8px; }
h1, h3, p, dd, li, td, th, summary { overflow-wrap: anywhere; }
a { color: var(--link); text-underline-offset: 2px; }
a:focus-visible, summary:focus-visible { outline: 3px solid var(--note); outline-offset: 2px; }
code, pre, .mono { font-size: 12.5px; overflow-wrap: anywhere; }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 6px; padding: 8px 10px; margin: 6px 0;
  white-space: pre-wrap; tab-size: 4; }
pre .added { color: var(--ok); } pre .removed { color: var(--error); } pre .place { color: var(--dimmed); }
.dimmed { color: var(--dimmed); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.tone-error { color: var(--error); } .tone-warning { color: var(--warning); }
.tone-note { color: var(--note); } .tone-ok { color: var(--ok); }
.severity { font-weight: 700; }

.verdict { border: 1px solid var(--line); border-left: 6px solid currentColor; border-radius: 8px; padding: 10px 16px; }
.verdict.tone-error { background: var(--error-wash); } .verdict.tone-warning { background: var(--warning-wash); }
.verdict.tone-note { background: var(--note-wash); } .verdict.tone-ok { background: var(--ok-wash); }
.verdict-word { font-size: 13px; font-weight: 700; }
.next { color: var(--text); margin-top: 4px; }
.facts { font-size: 12.5px; margin-top: 8px; overflow-wrap: anywhere; }
.tag { font-size: 12px; font-weight: 650; color: var(--dimmed); border: 1px solid currentColor; border-radius: 5px;
  padding: 0 6px; white-space: nowrap; background: var(--card); }
.tag-ok { color: var(--ok); } .tag-partly { color: var(--warning); } .tag-failed { color: var(--error); }

.numbers { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 12px; margin: 12px 0; }
.numbers > div { padding: 8px 14px; }
.numbers dt, .numbers .note { font-size: 12.5px; color: var(--dimmed); }
.numbers .number { font-size: 22px; line-height: 1.3; font-weight: 700; }

.contents { list-style: none; padding: 4px 16px; }
.contents li { display: grid; grid-template-columns: 28px 88px 1fr auto; gap: 0 8px; padding: 5px 0; align-items: baseline; }
.contents li + li { border-top: 1px solid var(--line); }
.contents .onset { white-space: nowrap; }

.chart { display: grid; grid-template-columns: minmax(0, var(--names)) minmax(0, 1fr); gap: 0 8px; position: relative; }
.side { position: relative; font-size: 12px; color: var(--dimmed); }
.side > span { position: absolute; right: 0; transform: translateY(-50%); white-space: nowrap; max-width: 100%;
  overflow: hidden; text-overflow: ellipsis; }
.side > .marked { color: var(--text); font-weight: 700; }
.side > .title { right: auto; left: 0; transform: none; top: 0; }
.plot { position: relative; border: 1px solid var(--line); }
.plot svg, .plot img { display: block; width: 100%; height: 100%; }
.plot.loss { height: 110px; } .plot.loss { margin-bottom: 8px; }
.plot img { image-rendering: pixelated; }
.marks { position: absolute; inset: 0; pointer-events: none; }
.steps { position: relative; height: 20px; font-size: 12px; color: var(--dimmed); }
.steps > span, .labels > span { position: absolute; transform: translateX(-50%); white-space: nowrap; top: 2px; }
.steps > .first { transform: none; } .steps > .last { transform: translateX(-100%); }
.labels { position: relative; height: 20px; font-size: 12px; font-weight: 700; }
.axis-title { text-align: center; font-size: 12.5px; color: var(--dimmed); }
.line { fill: none; stroke-width: 1.75; vector-effect: non-scaling-stroke; }
.line-1 { stroke: var(--first-line); } .line-2 { stroke: var(--second-line); stroke-dasharray: 6 4; }
.line-3 { stroke: var(--third-line); stroke-dasharray: 2 3; }
.dot { stroke-width: 6; stroke-linecap: round; vector-effect: non-scaling-stroke; stroke-dasharray: none; }
.grid { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.onset-line { stroke: currentColor; stroke-width: 1.5; stroke-dasharray: 2 3; vector-effect: non-scaling-stroke; }
.nan { fill: var(--non-finite); opacity: 0.12; }
.nan-word { position: absolute; top: 50%; transform: translate(-50%, -50%); font-size: 12px; font-weight: 700; }
.scale { max-width: 460px; margin: 12px 0 4px; font-size: 12px; color: var(--dimmed); }
.scale .bar { height: 12px; border: 1px solid var(--line); background: var(--scale); }
.scale .ticks { display: flex; justify-content: space-between; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12.5px; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; vertical-align: -1px;
  border: 1px solid var(--line); }
.swatch.zero { background: var(--zero); } .swatch.not-recorded { background: var(--not-recorded); }
.swatch.non-finite { background: var(--non-finite); }
.sample { width: 28px; height: 8px; margin-right: 6px; vertical-align: 1px; }

.finding { margin-bottom: 12px; border-left-width: 5px; }
.bar-error { border-left-color: var(--error); } .bar-warning { border-left-color: var(--warning); }
.bar-note { border-left-color: var(--note); }
.finding-head { font-size: 13px; }
.said { display: grid; grid-template-columns: 74px minmax(0, 1fr); gap: 6px 10px; }
.said dt { color: var(--dimmed); }
.said li + li, .said p + p, .said figure + p, .said pre + p { margin-top: 4px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; vertical-align: top; padding: 3px 12px 3px 0; font-weight: 400;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--dimmed); font-size: 12.5px; }
td { min-width: 80px; }
details { margin-top: 10px; } details > summary { cursor: pointer; padding: 2px 0; }
details > div { margin: 4px 0 4px 16px; }
.trial { max-width: 560px; margin-top: 8px; }
.trial .plot { height: 130px; }
.list { padding-left: 18px; font-size: 13px; }
.facts-list { display: grid; grid-template-columns: 130px minmax(0, 1fr); gap: 3px 12px; font-size: 13px; }
.facts-list dt { color: var(--dimmed); }
footer { font-size: 12.5px; color: var(--dimmed); margin-top: 24px; overflow-wrap: anywhere; }
@media (max-width: 600px) {
  .numbers { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
  .said, .facts-list { grid-template-columns: minmax(0, 1fr); gap: 0; } .said dd { margin-bottom: 8px; }
  .contents li { grid-template-columns: 28px 1fr auto; } .contents li > a { grid-column: 1 / -1; }
  .chart { grid-template-columns: 96px minmax(0, 1fr); }
}
@media print {
  :root { color-scheme: light; } body { background: none; font-size: 12px; } main { max-width: none; padding: 0; }
  .verdict, .plot, .bar, .swatch, pre { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  .numbers > div, .contents li, figure, pre, tr, .suggestion-head { break-inside: avoid; } h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; display: block; } /* what is folded is printed too */
}
"""

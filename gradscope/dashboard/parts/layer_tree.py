"""The layers as the tree that the model is: each module with the worst of what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.layer_rows import LayerRow, LayerState, findings_by_layer
from gradscope.dashboard.parts.layer_table import state_tag
from gradscope.records import SEVERITIES, Diagnosis
from gradscope.reports.words import SHAPES, count
from gradscope.signals import Signals

MOST_NODES = 300  # drawn at once
MOST_CHILDREN = 80  # of one module


@dataclass
class Node:
    """A module of the tree.

    Attributes:
        path: its path.
        kind: class name; empty when it never ran.
        state: its own where it is a layer or a finding names it, and the worst of what is in it.
        layers: how many layers are in it.
        unhealthy: how many of them need a look.
        children: in the order of execution.
        drawn: how many of the children are drawn.
    """

    path: str
    kind: str = ""
    state: LayerState = field(default_factory=lambda: LayerState("○", "Not known", "unknown"))
    layers: int = 0
    unhealthy: int = 0
    children: list[Node] = field(default_factory=list)
    drawn: int = 0


def layer_tree_data(signals: Signals, diagnosis: Diagnosis, rows: Iterable[LayerRow]) -> Node:
    """The tree of some layers; the first node is the model itself."""
    kinds = {site.path: site.kind for site in signals.sites if site.role == "output"}
    named = findings_by_layer(diagnosis)
    root = Node("", kinds.get("", ""))
    nodes = {"": root}
    for row in rows:
        parts = row.path.split(".") if row.path else []
        way = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        for parent, path in zip(["", *way], way, strict=False):
            if path not in nodes:
                nodes[path] = Node(path, kinds.get(path, row.kind if path == row.path else ""))
                nodes[parent].children.append(nodes[path])
                nodes[path].state = _own_state(diagnosis, named.get(path, []))
        for path in ["", *way]:
            nodes[path].layers += 1
            nodes[path].unhealthy += row.state.is_unhealthy
        nodes[row.path].state = max(nodes[row.path].state, row.state, key=lambda state: state.rank)
    root.state = max(root.state, _own_state(diagnosis, named.get("", [])), key=lambda state: state.rank)
    for path in sorted(nodes, key=lambda path: -path.count(".") - bool(path)):
        node = nodes[path]
        worst = max((child.state for child in node.children), key=lambda state: state.rank, default=node.state)
        node.state = max(node.state, worst._replace(findings=()), key=lambda state: state.rank)
    _spend(root)
    return root


def _own_state(diagnosis: Diagnosis, findings: list[int]) -> LayerState:
    if not findings:
        return LayerState("○", "Not known", "unknown")
    worst = max((diagnosis.findings[number - 1].severity for number in findings), key=SEVERITIES.index)
    return LayerState(SHAPES[worst][0], worst.capitalize(), worst, tuple(f"F{number}" for number in findings))


def _spend(root: Node) -> None:
    """Decides what is drawn, level by level, so that a model of thousands of layers is a tree that one can read."""
    left, level = MOST_NODES, [root]
    while level and left > 0:
        below: list[Node] = []
        for node in level:
            node.drawn = min(len(node.children), MOST_CHILDREN, max(0, left))
            left -= node.drawn
            below += node.children[: node.drawn]
        level = below


def layer_tree(root: Node, address: Address) -> list[Component]:
    """The tree as nested lists that fold."""
    if not root.layers:
        return [html.P("No layer is like that.", className="dimmed nothing")]
    return [html.Ul(_node(root, address), className="tree plain", **aria(label="Modules of the model"))]


def _node(node: Node, address: Address) -> Component:
    name = node.path.rpartition(".")[2] or "(model)"
    target = node.path or "(model)"
    here = address.layer == target
    line: list[Component | str] = [
        html.A(
            name,
            href=address.at(layer=target).href,
            className="mono layer-link",
            **(aria(current="true") if here else {}),
        ),
        html.Span(f" {node.kind} ", className="dimmed kind"),
        state_tag(node.state),
    ]
    for finding in node.state.findings:
        line += [" ", html.A(finding, href=address.of_run("finding", finding=finding).href)]
    if not node.children:
        return html.Li(line, className="leaf here" if here else "leaf")
    inside = (
        f" {node.unhealthy} of {count(node.layers, 'layer')} unhealthy"
        if node.unhealthy
        else f" {count(node.layers, 'layer')}"
    )
    line.append(html.Span(inside, className="dimmed"))
    children = [_node(child, address) for child in node.children[: node.drawn]]
    rest = len(node.children) - node.drawn
    if rest:
        more = f"{rest:,} more in here" if node.drawn else f"Show the {rest:,} in here"
        children.append(
            html.Li(html.A(more, href=address.at(find=f"{node.path}." if node.path else None, sort=None).href))
        )
    # the line stands before what it folds: a link inside of a summary is out of a screen reader's reach
    hidden = html.Span(f"What is in {name}", className="visually-hidden")
    fold = html.Details(
        [html.Summary(hidden), html.Ul(children, className="plain")], open=bool(node.unhealthy) or not node.path
    )
    place = "branch here" if here else "branch"
    return html.Li([html.Div(line, className="line", title=target), fold], className=place)

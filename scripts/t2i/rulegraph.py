"""Snakemake's rule graph as a picture: layers from top to bottom, drawn without graphviz.

The method is that of Sugiyama, Tagawa and Toda (1981): assign layers, give long edges a bend in
each layer they cross, order each layer to have few crossings, then place nodes below and above
their neighbours. Positions within a layer are the least-squares fit to the neighbours' mean under
the order and the gaps, which is an isotonic regression.
"""

from __future__ import annotations

import re
from html import escape
from itertools import pairwise
from typing import NamedTuple

import networkx as nx

NODE = re.compile(r'^\s*(\w+)\s*\[label\s*=\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
EDGE = re.compile(r"^\s*(\w+)\s*->\s*(\w+)", re.MULTILINE)

CHARACTER = 7.4  # width in px of a 13 px sans-serif character, on the generous side
HEIGHT = 30
LAYER_STEP = 62
GAP = 18
BORDER = 14
STEEPEST = GAP / HEIGHT  # sideways px per px down, where an edge crosses a layer
SWEEPS = 24

STYLE = """
:root { color-scheme: light dark; }
.rulegraph { --ink: #1c2733; --line: #8794a3; --box: #f4f6f8; --ground: #fff;
  font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.rulegraph .ground { fill: var(--ground); }
.rulegraph .edge { fill: none; stroke: var(--line); stroke-width: 1.5; }
.rulegraph .head { fill: var(--line); }
.rulegraph .node rect { fill: var(--box); stroke: var(--line); }
.rulegraph .node text { fill: var(--ink); text-anchor: middle; dominant-baseline: central; }
@media (prefers-color-scheme: dark) { .rulegraph { --ink: #e4e9ee; --line: #8592a1;
  --box: #222b35; --ground: #161c23; } }
"""


class Bend(NamedTuple):
    """The point at which an edge from `source` to `target` crosses a layer between them."""

    source: str
    target: str
    layer: int


Point = str | Bend


def parse(dot: str) -> nx.DiGraph[str]:
    """Read the text of `snakemake --rulegraph dot`: node attribute `label`, edges in data flow.

    Raises ValueError when there is no node, when an edge names an unknown node, or on a cycle.
    """
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, label in NODE.findall(dot):
        graph.add_node(name, label=re.sub(r"\\(.)", r"\1", label.replace(r"\n", " ")))
    if not graph:
        raise ValueError("the rule graph has no rule; expected the text of --rulegraph dot")
    for source, target in EDGE.findall(dot):
        if source not in graph or target not in graph:
            raise ValueError(f"the rule graph's edge {source} -> {target} names an unknown rule")
        graph.add_edge(source, target)
    if not nx.is_directed_acyclic_graph(graph):
        raise ValueError("the rule graph has a cycle, which no workflow can run")
    return graph


def layers(graph: nx.DiGraph[str]) -> dict[str, int]:
    """Layer of each node, 0 at the top: below all it needs, and sources just above their users."""
    layer = {
        node: depth for depth, row in enumerate(nx.topological_generations(graph)) for node in row
    }
    for node in graph:
        if graph.in_degree(node) == 0 and graph.out_degree(node) > 0:
            layer[node] = min(layer[user] for user in graph.successors(node)) - 1
    return layer


def _routes(graph: nx.DiGraph[str], layer: dict[str, int]) -> dict[tuple[str, str], list[Point]]:
    return {
        (source, target): [
            source,
            *(Bend(source, target, depth) for depth in range(layer[source] + 1, layer[target])),
            target,
        ]
        for source, target in graph.edges
    }


def _crossings(rows: list[list[Point]], below: nx.DiGraph[Point]) -> int:
    count = 0
    for upper, lower in pairwise(rows):
        place = {point: index for index, point in enumerate(lower)}
        ends = [sorted(place[user] for user in below.successors(point)) for point in upper]
        for left, first in enumerate(ends):
            for second in ends[left + 1 :]:
                count += sum(a > b for a in first for b in second)
    return count


def _order(rows: list[list[Point]], below: nx.DiGraph[Point]) -> list[list[Point]]:
    """Order each row by the mean place of its neighbours, down and up, keeping the best seen."""
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        for index in range(1, len(rows)) if downwards else range(len(rows) - 2, -1, -1):
            fixed = rows[index - 1 if downwards else index + 1]
            place = {point: position for position, point in enumerate(fixed)}
            near = below.predecessors if downwards else below.successors
            mean = {}
            for position, point in enumerate(rows[index]):
                places = [place[other] for other in near(point)]
                mean[point] = sum(places) / len(places) if places else position
            rows[index] = sorted(rows[index], key=mean.__getitem__)
        if (crossings := _crossings(rows, below)) < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _fit(wanted: list[float], weights: list[float], gaps: list[float]) -> list[float]:
    """Positions nearest to `wanted` (weighted least squares) that keep order and `gaps`."""
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, number of members
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, members = want - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, heavy, count = blocks.pop()
            mean = (before * heavy + mean * weight) / (heavy + weight)
            weight, members = heavy + weight, members + count
        blocks.append((mean, weight, members))
    means = [mean for mean, _, members in blocks for _ in range(members)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _place(
    rows: list[list[Point]], below: nx.DiGraph[Point], width: dict[Point, float]
) -> dict[Point, float]:
    """Centre of each point in px, from the left border."""
    gaps = [[(width[a] + width[b]) / 2 + GAP for a, b in pairwise(row)] for row in rows]
    x: dict[Point, float] = {}
    for row, gap in zip(rows, gaps, strict=True):
        total = sum(gap)
        x.update(zip(row, _fit([-total / 2] * len(row), [1.0] * len(row), gap), strict=True))
    for sweep in range(SWEEPS):
        for index in range(len(rows)) if sweep % 2 == 0 else range(len(rows) - 1, -1, -1):
            wanted = []
            for point in rows[index]:
                near = [x[p] for p in below.predecessors(point)]
                near += [x[p] for p in below.successors(point)]
                wanted.append(sum(near) / len(near) if near else x[point])
            # Bends weigh more than rules, so that long edges run straight.
            weights = [4.0 if isinstance(point, Bend) else 1.0 for point in rows[index]]
            x.update(zip(rows[index], _fit(wanted, weights, gaps[index]), strict=True))
    left = min(x[point] - width[point] / 2 for point in x) - BORDER
    return {point: centre - left for point, centre in x.items()}


def _path(ends: tuple[float, float], bends: list[float], top: float) -> str:
    """Path data of an edge from `top`, the lower border of its source's layer, downwards.

    `ends` and `bends` are x positions. Between layers the line curves; across a layer it is
    straight and steep enough to stay off the rules beside it.
    """
    stops = [ends[0], *bends, ends[1]]
    steps = [f"M{ends[0]:.1f} {top:.1f}"]
    x0, slope0, y0 = ends[0], 0.0, top
    for index in range(1, len(stops)):
        last = index == len(stops) - 1
        slope = 0.0 if last else (stops[index + 1] - stops[index - 1]) / (2 * LAYER_STEP)
        slope = max(-STEEPEST, min(STEEPEST, slope))
        x1, y1 = stops[index] - slope * HEIGHT / 2, y0 + LAYER_STEP - HEIGHT - last
        arm = (y1 - y0) / 2
        steps.append(
            f"C{x0 + slope0 * arm:.1f} {y0 + arm:.1f} {x1 - slope * arm:.1f} {y1 - arm:.1f}"
            f" {x1:.1f} {y1:.1f}"
        )
        x0, slope0, y0 = x1 + slope * HEIGHT, slope, y1 + HEIGHT
        if not last:
            steps.append(f"L{x0:.1f} {y0:.1f}")
    return "".join(steps)


def svg(dot_text: str) -> str:
    """Draw the text of `snakemake --rulegraph dot` as one stand-alone SVG element.

    Data flows from top to bottom. Each rule is a `<g class="node">`; each edge a `<path>` with a
    `<title>`. An edge that a longer way through other rules implies is left out, or the page would
    be all lines. Colours follow the reader's preference for light or dark. Raises ValueError as
    `parse` does.
    """
    whole = parse(dot_text)
    label: dict[str, str] = dict(whole.nodes(data="label"))
    graph = nx.transitive_reduction(whole)
    layer = layers(graph)
    routes = _routes(graph, layer)
    below: nx.DiGraph[Point] = nx.DiGraph()
    below.add_nodes_from(graph)
    rows: list[list[Point]] = [[] for _ in range(max(layer.values()) + 1)]
    for node, depth in layer.items():
        rows[depth].append(node)
    for route in routes.values():
        below.add_edges_from(pairwise(route))
        for point in route[1:-1]:
            assert isinstance(point, Bend)
            rows[point.layer].append(point)
    width: dict[Point, float] = {
        point: 6.0 if isinstance(point, Bend) else CHARACTER * len(label[point]) + 24
        for point in below
    }
    x = _place(_order(rows, below), below, width)
    total = max(x[point] + width[point] / 2 for point in x) + BORDER
    height = (len(rows) - 1) * LAYER_STEP + HEIGHT + 2 * BORDER
    middle = {node: BORDER + HEIGHT / 2 + depth * LAYER_STEP for node, depth in layer.items()}

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="rulegraph" role="img"'
        f' width="{total:.0f}" height="{height:.0f}" viewBox="0 0 {total:.0f} {height:.0f}">',
        f"<title>Rule graph: {len(label)} rules, data flows from top to bottom</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="rulegraph-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
        ' markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
        '<path class="head" d="M0 0.5 L8 4 L0 7.5 Z"/></marker></defs>',
        '<rect class="ground" width="100%" height="100%"/>',
    ]
    for source, target in routes:
        bends = [x[point] for point in routes[source, target][1:-1]]
        path = _path((x[source], x[target]), bends, middle[source] + HEIGHT / 2)
        parts.append(
            f'<path class="edge" d="{path}" marker-end="url(#rulegraph-head)">'
            f"<title>{escape(label[source])} → {escape(label[target])}</title></path>"
        )
    for node in graph:
        wide = width[node]
        parts.append(
            f'<g class="node"><rect x="{x[node] - wide / 2:.1f}"'
            f' y="{middle[node] - HEIGHT / 2:.1f}" width="{wide:.1f}" height="{HEIGHT}" rx="7"/>'
            f'<text x="{x[node]:.1f}" y="{middle[node]:.1f}">{escape(label[node])}</text></g>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"

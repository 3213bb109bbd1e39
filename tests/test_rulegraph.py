"""The rule graph's picture: nothing left out, nothing on top of something else."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest

from t2i.rulegraph import layers, parse, svg

SVG = "{http://www.w3.org/2000/svg}"
RULES = ["all", "report", "metrics", "features", "generate", "engine", "tokens", "captions"]
EDGES = [(1, 0), (2, 1), (3, 2), (4, 3), (7, 3), (5, 4), (6, 4), (7, 4), (7, 6), (7, 1), (4, 1)]

DENSE = (
    [f"rule_with_a_long_name_{index}" for index in range(14)],
    [(a, b) for a, b in combinations(range(14), 2) if (a * 7 + b * 3) % 4 == 0],
)


def dot(rules: list[str], edges: list[tuple[int, int]]) -> str:
    """Text as `snakemake --rulegraph dot` writes it."""
    lines = [
        "digraph snakemake_dag {",
        "    graph[bgcolor=white, margin=0];",
        "    node[shape=box, style=rounded, fontname=sans, fontsize=10, penwidth=2];",
        "    edge[penwidth=2, color=grey];",
    ]
    for index, rule in enumerate(rules):
        lines.append(
            f'\t{index}[label = "{rule}", color = "0.13 0.6 0.85", style="rounded,dashed"];'
        )
    lines += [f"\t{source} -> {target}" for source, target in edges]
    return "\n".join([*lines, "}            "])


def boxes(root: ElementTree.Element) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right and bottom of each rule."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        box, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert box is not None and text is not None and text.text
        x, y, wide, high = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        found[text.text] = (x, y, x + wide, y + high)
    return found


IMPLIED = {"captions → features", "captions → generate", "captions → report", "generate → report"}


def test_every_rule_and_direct_edge_is_drawn() -> None:
    """Edges that a longer way implies are left out, all others are there."""
    root = ElementTree.fromstring(svg(dot(RULES, EDGES)))
    assert set(boxes(root)) == set(RULES)
    titles = [str(path.findtext(f"{SVG}title")) for path in root.findall(f"{SVG}path")]
    every = {f"{RULES[a]} → {RULES[b]}" for a, b in EDGES}
    assert sorted(titles) == sorted(every - IMPLIED)


def test_data_flows_downwards() -> None:
    placed = boxes(ElementTree.fromstring(svg(dot(RULES, EDGES))))
    for source, target in EDGES:
        assert placed[RULES[source]][3] < placed[RULES[target]][1]


def test_boxes_lie_apart_and_inside() -> None:
    root = ElementTree.fromstring(svg(dot(*DENSE)))
    placed = list(boxes(root).values())
    for one, other in combinations(placed, 2):
        apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
        assert apart
    wide, high = float(root.attrib["width"]), float(root.attrib["height"])
    for left, top, right, bottom in placed:
        assert left >= 0 and top >= 0 and right <= wide and bottom <= high


def along(path: str) -> list[tuple[float, float]]:
    """Points along path data of M, C and L with absolute positions."""
    found: list[tuple[float, float]] = []
    for kind, text in re.findall(r"([MCL])([^MCL]+)", path):
        values = [float(value) for value in text.split()]
        stops = list(zip(values[::2], values[1::2], strict=True))
        if kind == "M":
            found += stops
            continue
        stops = [found[-1], *stops]
        for step in range(1, 41):
            level = stops
            while len(level) > 1:  # de Casteljau's construction
                level = [
                    (a + (c - a) * step / 40, b + (d - b) * step / 40)
                    for (a, b), (c, d) in pairwise(level)
                ]
            found += level
    return found


@pytest.mark.parametrize("graph", [(RULES, EDGES), DENSE])
def test_edges_pass_no_rule(graph: tuple[list[str], list[tuple[int, int]]]) -> None:
    """A line touches the rules at its ends and no other."""
    root = ElementTree.fromstring(svg(dot(*graph)))
    placed = boxes(root)
    for path in root.findall(f"{SVG}path"):
        ends = str(path.findtext(f"{SVG}title")).split(" → ")
        others = [box for rule, box in placed.items() if rule not in ends]
        points = along(path.attrib["d"])
        assert points[-1][1] == pytest.approx(placed[ends[1]][1] - 1, abs=0.2)
        for x, y in points:
            assert not any(box[0] < x < box[2] and box[1] < y < box[3] for box in others)


def test_sources_stand_just_above_their_user() -> None:
    graph = parse(dot(["late", "a", "b", "end"], [(1, 2), (2, 3), (0, 3)]))
    assert layers(graph) == {"1": 0, "2": 1, "0": 1, "3": 2}


def test_the_picture_is_the_same_each_time() -> None:
    assert svg(dot(RULES, EDGES)) == svg(dot(RULES, EDGES))


def test_labels_are_escaped() -> None:
    picture = svg(dot(["a<b>&c"], []))
    assert "a&lt;b&gt;&amp;c" in picture
    ElementTree.fromstring(picture)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digraph {}", "no rule"),
        (dot(["a"], [(0, 1)]), "0 -> 1 names an unknown rule"),
        (dot(["a", "b"], [(0, 1), (1, 0)]), "cycle"),
    ],
)
def test_bad_graphs_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        svg(text)

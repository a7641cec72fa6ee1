"""The parts of a network for a drawing: boxes in a row, forks with branches, and blocks.

A block is a module whose own operations join branches, such as a residual block. From outside it is
one box. Layers that only change values, such as batch normalization and ReLU, share the box of the
layer before them. In rows that begin with them, they share the box of the layer behind them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

from cnnbench.analysis.network_graph import Graph, Node

__all__ = ["MAIN", "Block", "Box", "Fork", "Part", "list_parts"]

Shape = tuple[int, ...]
MAIN = ("convolution", "linear", "pooling", "other")  # kinds of which a box has one at most


@dataclass(frozen=True)
class Box:
    """Layers in a row, drawn as one box. There are `times` such boxes."""

    nodes: tuple[Node, ...]
    times: int = 1

    @property
    def shape(self) -> Shape:
        return self.nodes[-1].shape


@dataclass(frozen=True)
class Fork:
    """Branches from the same output to `join`. A branch without parts is a line."""

    branches: "tuple[tuple[Part, ...], ...]"
    join: Node

    @property
    def shape(self) -> Shape:
        return self.join.shape


@dataclass(frozen=True)
class Block:
    """Modules of the same layers in a row, drawn as one box.

    `names` are the names of the modules, `kind` is their class. `source` is the shape of the input
    of the first, `shape` that of the output of the last. `nodes` and `parts` are those of the
    first. Without parts its branches cannot be drawn.
    """

    names: tuple[str, ...]
    kind: str
    source: Shape
    shape: Shape
    nodes: tuple[Node, ...]
    parts: "tuple[Part, ...]" = ()

    @property
    def times(self) -> int:
        return len(self.names)

    @property
    def pattern(self) -> tuple[str, ...]:
        """Return what blocks have in common that differ only in their channels."""
        return self.kind, *(node.pattern for node in self.nodes)


Part: TypeAlias = Box | Fork | Block
Inputs = Mapping[int, Sequence[int]]  # the indices that feed each index
Row = list["int | _Forked"]


@dataclass(frozen=True)
class _Forked:
    """Rows of indices that begin at the same index, and the index of their join."""

    rows: list[Row]
    join: int


class _CrossingError(Exception):
    """Branches cross, so that they cannot be drawn side by side."""


def list_parts(graph: Graph) -> tuple[Part, ...]:
    """Return the parts from the image to the logits, without the image.

    If branches of the network itself cross, the parts are its children.
    """
    if graph.output is None:
        return _list_children(graph, graph.nodes[1:])
    nodes = _find_used(graph, graph.output)
    blocks: dict[int, Block] = {}
    inputs = {node.index: node.inputs for node in nodes[1:]}
    for name, kind, members, source, output in _find_blocks(graph, nodes):
        inside = {node.index: inputs.pop(node.index) for node in members}
        inputs[output] = (source,)
        shapes = graph.nodes[source].shape, graph.nodes[output].shape
        try:
            row = _arrange(inside, source, output)
        except _CrossingError:
            row = []
        blocks[output] = Block((name,), kind, *shapes, tuple(members), _make_parts(row, graph, {}))
    try:
        row = _arrange(dict(sorted(inputs.items())), 0, graph.output)
    except _CrossingError:
        return _list_children(graph, nodes[1:])
    return _make_parts(row, graph, blocks)


def _find_used(graph: Graph, output: int) -> list[Node]:
    """Return the nodes that the output depends on."""
    used = {output}
    for node in reversed(graph.nodes):
        if node.index in used:
            used.update(node.inputs)
    return [node for node in graph.nodes if node.index in used]


def _find_blocks(
    graph: Graph, nodes: Sequence[Node]
) -> list[tuple[str, str, list[Node], int, int]]:
    """Return name, class, nodes, index of the input and of the output of each block.

    Blocks are the outermost modules that join branches, with one input and one output.
    """
    joining = {node.scope[-1] for node in nodes if len(node.inputs) > 1 and len(node.scope) > 1}
    members: dict[int, list[Node]] = {}
    block_of: dict[int, int] = {}
    for node in nodes:
        call = next((call for call in node.scope[1:] if call in joining), None)
        if call is not None:
            members.setdefault(call, []).append(node)
            block_of[node.index] = call
    sources: dict[int, set[int]] = {call: set() for call in members}
    outputs: dict[int, set[int]] = {call: set() for call in members}
    for node in nodes:
        here = block_of.get(node.index)
        for index in node.inputs:
            there = block_of.get(index)
            if here is not None and here != there:
                sources[here].add(index)
            if there is not None and here != there:
                outputs[there].add(index)
    if graph.output in block_of:
        outputs[block_of[graph.output]].add(graph.output)
    found = []
    for call, inside in members.items():
        if len(sources[call]) == len(outputs[call]) == 1:
            name, kind = graph.calls[call].name, graph.calls[call].kind
            found.append((name, kind, inside, sources[call].pop(), outputs[call].pop()))
    return found


def _arrange(inputs: Inputs, start: int, end: int) -> Row:
    """Return the indices from `start`, exclusive, to `end` as a row with forks.

    Raises:
        _CrossingError: branches cross.
    """
    followers: dict[int, list[int]] = {start: [], **{index: [] for index in inputs}}
    for index, sources in inputs.items():
        for source in sources:
            followers[source].append(index)
    meeting = {end: end}  # the first index that all ways from an index lead to

    def meet(first: int, second: int) -> int:
        while first != second:
            if first < second:
                first = meeting[first]
            else:
                second = meeting[second]
        return first

    for index in sorted(followers, reverse=True):
        if index != end:
            meeting[index] = reduce(meet, followers[index])

    def walk(index: int, stop: int | None) -> Row:
        """Return the row from `index` to `stop`, exclusive."""
        row: Row = []
        while index != stop:
            if len(inputs.get(index, (start,))) != 1:  # a join of other branches than those here
                raise _CrossingError
            row.append(index)
            while len(followers[index]) > 1:
                join = meeting[index]
                if join == stop or len(inputs[join]) != len(followers[index]):
                    raise _CrossingError
                rows = [walk(follower, join) for follower in followers[index]]
                by_end: dict[int, list[Row]] = {}
                for inner in rows:
                    by_end.setdefault(_last_index(inner, index), []).append(inner)
                row.append(_Forked([by_end[source].pop() for source in inputs[join]], join))
                index = join
            if index == end:
                break
            (index,) = followers[index]
        return row

    return walk(start, None)[1:]


def _last_index(row: Row, fork: int) -> int:
    if not row:
        return fork
    return row[-1].join if isinstance(row[-1], _Forked) else row[-1]


def _make_parts(row: Row, graph: Graph, blocks: Mapping[int, Block]) -> tuple[Part, ...]:
    """Return the parts of a row. Equal parts that follow each other become one."""
    parts: list[Part] = []
    waiting: list[Node] = []
    for item in row:
        if isinstance(item, int) and item not in blocks:
            waiting.append(graph.nodes[item])
            continue
        parts += _make_boxes(waiting)
        waiting = []
        if isinstance(item, int):
            parts.append(blocks[item])
            continue
        branches = [_make_parts(inner, graph, blocks) for inner in item.rows]
        if graph.nodes[item.join].kind != "concatenation":
            branches.sort(key=len, reverse=True)  # the first is in line with what is before it
        parts.append(Fork(tuple(branches), graph.nodes[item.join]))
    return _merge_equal([*parts, *_make_boxes(waiting)])


def _make_boxes(nodes: Sequence[Node]) -> list[Box]:
    """Divide nodes in a row into boxes with at most one layer that is not pointwise."""
    boxes: list[list[Node]] = []
    is_behind = bool(nodes) and nodes[0].kind != "pointwise"  # pointwise layers follow others
    for node in nodes:
        has_main = bool(boxes) and any(other.kind in MAIN for other in boxes[-1])
        match node.kind:
            case "dropout":
                joins = True
            case "pointwise":
                joins = is_behind or not has_main
            case "convolution" | "linear":
                joins = not has_main and not is_behind
            case _:
                joins = False
        if boxes and joins:
            boxes[-1].append(node)
        else:
            boxes.append([node])
    return [Box(tuple(box)) for box in boxes]


def _merge_equal(parts: Sequence[Part]) -> tuple[Part, ...]:
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, Box) and isinstance(last, Box) and _is_equal(part, last):
            merged[-1] = replace(last, times=last.times + 1)
        elif isinstance(part, Block) and isinstance(last, Block) and _is_equal(part, last):
            names = (*last.names, *part.names)
            merged[-1] = replace(last, names=names, shape=part.shape)
        else:
            merged.append(part)
    return tuple(merged)


def _is_equal(part: Box | Block, other: Box | Block) -> bool:
    """Return whether parts have the same layers and sides. Their channels may grow, as a line."""
    labels = [node.label for node in part.nodes]
    return labels == [node.label for node in other.nodes] and part.shape[1:] == other.shape[1:]


def _list_children(graph: Graph, nodes: Sequence[Node]) -> tuple[Part, ...]:
    """Return the children of the network as blocks without parts, and its operations as boxes."""
    children: dict[int, list[Node]] = {}
    for node in nodes:
        children.setdefault(node.scope[1] if len(node.scope) > 1 else -node.index, []).append(node)
    parts: list[Part] = []
    for call, inside in children.items():
        if call < 0:
            parts.append(Box(tuple(inside)))
        else:
            source, shape = graph.nodes[inside[0].inputs[0]].shape, inside[-1].shape
            name, kind = graph.calls[call].name, graph.calls[call].kind
            parts.append(Block((name,), kind, source, shape, tuple(inside)))
    return _merge_equal(parts)

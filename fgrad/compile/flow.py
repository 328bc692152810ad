"""Which values to keep so that others can be computed again: a minimum cut."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple


class Kept(NamedTuple):
    """A value that a later part of a program may find in memory.

    Attributes:
        nbytes: What it costs to keep it.
        sources: The values from which it can be computed again; None where it cannot be. Those
            that are in memory at any rate are left out.
        needed: Whether the later part reads it.
    """

    nbytes: int
    sources: tuple[int, ...] | None
    needed: bool


def cheapest_to_keep(values: Sequence[Kept]) -> set[int]:
    """The values to keep: all that is needed is kept or follows from what is, for the fewest bytes.

    Of several such choices it is the one that computes least again.

    Args:
        values: Each names its sources by position.

    Returns:
        Positions of values.

    Source:
        Dinic, *Algorithm for solution of a problem of maximum flow in a network with power
        estimation*, Soviet Math. Doklady 11, 1970. A value is an edge of its bytes, between two
        nodes; edges that may not be cut lead from its sources into it.

    Example:
        >>> cheapest_to_keep([Kept(8, None, False), Kept(32, (0,), True)])
        {0}
    """
    source, sink = 2 * len(values), 2 * len(values) + 1
    endless = 1 + sum(v.nbytes for v in values)
    network = _Network(sink + 1)
    for i, value in enumerate(values):
        network.edge(2 * i, 2 * i + 1, value.nbytes)
        if value.sources is None:
            network.edge(source, 2 * i, endless)
        for s in value.sources or ():
            network.edge(2 * s + 1, 2 * i, endless)
        if value.needed:
            network.edge(2 * i + 1, sink, endless)
    network.saturate(source, sink)
    late = network.leading_to(sink)
    return {i for i in range(len(values)) if 2 * i + 1 in late and 2 * i not in late}


class _Network:
    """A flow network. Edge e and its reverse, e ^ 1, share what is left of their capacities."""

    def __init__(self, size: int) -> None:
        self.edges: list[list[int]] = [[] for _ in range(size)]
        self.target: list[int] = []
        self.left: list[int] = []

    def edge(self, a: int, b: int, capacity: int) -> None:
        self.edges[a].append(len(self.target))
        self.edges[b].append(len(self.target) + 1)
        self.target += (b, a)
        self.left += (capacity, 0)

    def saturate(self, source: int, sink: int) -> None:
        """Send as much as can be from source to sink, along shortest paths first."""
        while (level := self._levels(source, sink))[sink] >= 0:
            unused = [iter(edges) for edges in self.edges]
            path: list[int] = []
            node = source
            while True:
                if node == sink:
                    amount = min(self.left[e] for e in path)
                    for e in path:
                        self.left[e] -= amount
                        self.left[e ^ 1] += amount
                    path, node = [], source
                for e in unused[node]:
                    if self.left[e] and level[self.target[e]] == level[node] + 1:
                        path.append(e)
                        node = self.target[e]
                        break
                else:
                    if not path:
                        break
                    node = self.target[path.pop() ^ 1]

    def _levels(self, source: int, sink: int) -> list[int]:
        """The distance of each node from the source, as far as the sink; -1: further or never."""
        level = [-1] * len(self.edges)
        level[source] = 0
        waiting = deque([source])
        while waiting and level[sink] < 0:
            node = waiting.popleft()
            for e in self.edges[node]:
                if self.left[e] and level[self.target[e]] < 0:
                    level[self.target[e]] = level[node] + 1
                    waiting.append(self.target[e])
        return level

    def leading_to(self, sink: int) -> set[int]:
        """The nodes from which more could flow to the sink."""
        found = {sink}
        waiting = [sink]
        while waiting:
            for e in self.edges[waiting.pop()]:
                before = self.target[e]
                if before not in found and self.left[e ^ 1]:
                    found.add(before)
                    waiting.append(before)
        return found

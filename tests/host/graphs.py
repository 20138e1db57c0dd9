"""Prompts in ComfyUI's API format: written node by node, or converted from a saved workflow."""

from dataclasses import dataclass, field


@dataclass
class Graph:
    """``node = graph.add("KSampler", seed=1, model=loader[0], …)``; ``node[k]`` is a link to its k-th output."""

    nodes: dict[str, dict] = field(default_factory=dict)

    def add(self, class_type, /, **inputs):
        node = Node(str(len(self.nodes) + 1))
        self.nodes[node] = {"class_type": class_type, "inputs": inputs}
        return node

    def ids(self, class_type):
        """The ids of all nodes of one class."""
        return [key for key, node in self.nodes.items() if node["class_type"] == class_type]


class Node(str):
    """A node's id."""

    def __getitem__(self, output):
        return [str(self), output]

"""Blocks: nodes that show as one, the front end's subgraphs; a block on its own is a blueprint in the node library."""

from __future__ import annotations

import uuid

from .graph import Graph, Output
from .schemas import PACK, Input, Schema, Socket

BEGIN, END = -10, -20  # a block's own ends among its nodes, as the front end numbers them
SPACE = uuid.UUID("5a0a0f5e-7d0c-4c52-9f53-3f6d0c1a6a7e")  # of ids that stay the same


class BlockInput(Output):
    """A block's input as its nodes see it. Whether it is a socket or a widget follows from the nodes that it drives.

    given: the widget's value, instead of the first node's default. label: what it shows instead of its name.
    """

    def __init__(self, name: str, slot: int, given: object, label: str):
        super().__init__(BEGIN, slot, "*")
        self.name, self.given, self.label = name, given, label
        self.sockets: list[Input] = []

    def connect(self, socket: Input) -> None:
        super().connect(socket)
        self.type = socket.type if self.type == "*" else self.type
        self.sockets.append(socket)

    def value(self, widget: Input) -> object:
        return widget.default if self.given is None else self.given

    def socket(self) -> Input:
        """As the block shows it; ValueError where it drives nothing."""
        if not self.sockets:
            raise ValueError(f"the block's input {self.name!r} is connected to no node")
        first = self.sockets[0]
        optional = not first.widget and all(each.optional for each in self.sockets)
        default = self.value(first) if first.widget else None
        return Input(self.name, self.type, optional, first.widget, default, None, False, first.multiline, self.label)


class Block(Graph):
    """A graph with inputs and outputs of its own.

    first_id: its nodes' first number; they have to be others than those of the workflow that has it.
    """

    def __init__(self, name: str, *, category: str, description: str, first_id: int = 101):
        super().__init__(name, first_id=first_id)
        self.id = str(uuid.uuid5(SPACE, name))
        self.category, self.description = category, description
        self.inputs: list[BlockInput] = []
        self.outputs: list[tuple[str, Output]] = []

    def input(self, name: str, given: object = None, *, label: str = "") -> BlockInput:
        """An input, to connect to any number of nodes; the widgets among them stand on the block."""
        self.inputs.append(BlockInput(name, len(self.inputs), given, label))
        return self.inputs[-1]

    def output(self, name: str, source: Output) -> None:
        self.outputs.append((name, source))

    def schema(self) -> Schema:
        """The block as a class of nodes."""
        inputs = tuple(each.socket() for each in self.inputs)
        outputs = tuple(Socket(name, source.type, source.is_list) for name, source in self.outputs)
        return Schema(self.id, PACK, self.name, inputs, outputs)

"""Graphs for the front end, written down: nodes in columns, their links, groups and notes.

    graph = Graph("Understudy 9 - Example")
    left, right = graph.column(300), graph.column(320)
    loader = left.add("CheckpointLoaderSimple", Look(models=[MODEL]), ckpt_name=MODEL.name)
    text = right.add("CLIPTextEncode", clip=loader["CLIP"], text="a castle")
    graph.group("Student", left)
    workflow(graph)  # of saved.py: as JSON

A node's inputs are named as in its class: an ``Output`` makes a link, anything else is the widget's value, and widgets
that are not named have their defaults. Which input is a widget, and in which order values are saved, follows from
``schemas.json``. Lengths are the canvas's pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .schemas import Input, Schema, schema_of

# Heights of a title bar, a socket, a widget, a text and what is below them in Nodes 2.0; the classic canvas has less.
TITLE, ROW, WIDGET, TEXT, FOOT = 30, 20, 28, 72, 38
LACKING = 16  # below the title of a collapsed loader, where Nodes 2.0 says that its file is missing
ENTER = 22  # below that of a collapsed block, where Nodes 2.0 has the button that opens it
GAP = 30  # between nodes and between columns, in which there is room for links
NOTE = Schema("MarkdownNote", "", "Note", (Input("text", "STRING", widget=True, default="", multiline=True),), ())


@dataclass(frozen=True)
class Model:
    """A file that a loader asks for, as the front end offers it for download.

    name: as in the loader's widget, which is the URL's last part. directory: the folder in ComfyUI's models.
    size: as people say it, "6.9 GB". sha256: where it is known.
    """

    name: str
    url: str
    directory: str
    size: str = ""
    sha256: str | None = None


@dataclass(frozen=True)
class Look:
    """What a node is beside its inputs.

    height: without the title bar; by default that of its rows. models: the files of a loader. control: what becomes of
    its seed after each run, "fixed" or "randomize". collapsed: only its title is shown. labels: what inputs show
    instead of their names.
    """

    title: str = ""
    height: int | None = None
    models: Sequence[Model] = ()
    control: str = "fixed"
    collapsed: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Output:
    """One output of a node, where a link begins."""

    origin: int
    slot: int
    type: str
    is_list: bool = False

    def connect(self, socket: Input) -> None:
        """Takes note of a link to ``socket``; ValueError if it takes another type."""
        if "*" not in (self.type, socket.type) and self.type not in socket.type.split(","):
            raise ValueError(f"{socket.name} takes {socket.type}, and was given {self.type}")

    def value(self, widget: Input) -> object:
        """What a widget holds that this drives."""
        return widget.default


@dataclass
class Node:
    """values: of all widgets. links: where the connected inputs come from. named: the inputs that were given."""

    id: int
    schema: Schema
    look: Look
    values: dict[str, object]
    links: dict[str, Output]
    named: frozenset[str]
    x: int
    y: int  # below the title bar
    width: int

    @property
    def title(self) -> str:
        return self.look.title or self.schema.title

    @property
    def height(self) -> int:
        return self.look.height or natural_height(self.schema)

    @property
    def box(self) -> Box:
        below = self.height
        if self.look.collapsed:
            is_block = "-" in self.schema.type  # an id instead of a class's name
            below = LACKING if self.look.models else ENTER if is_block else 0
        return Box(self.x, self.y - TITLE, self.x + self.width, self.y + below)

    def __getitem__(self, name: str) -> Output:
        for slot, socket in enumerate(self.schema.outputs):
            if socket.name == name:
                return Output(self.id, slot, socket.type, socket.is_list)
        known = [socket.name for socket in self.schema.outputs]
        raise ValueError(f"{self.schema.title} has no output {name!r}; expected one of {known}")


def natural_height(schema: Schema) -> int:
    """The least height that shows all sockets and widgets."""
    height = ROW * max(sum(not each.widget for each in schema.inputs), len(schema.outputs)) + FOOT
    for each in schema.widgets:
        height += (TEXT if each.multiline else WIDGET) + WIDGET * (each.follows is not None)
    return height


@dataclass(frozen=True)
class Box:
    left: int
    top: int
    right: int
    bottom: int

    def overlaps(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def around(nodes: Sequence[Node]) -> Box:
    """The least box with all of them."""
    boxes = [node.box for node in nodes]
    return Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )


@dataclass
class Column:
    """Nodes one below the other, all of one width."""

    graph: Graph
    x: int
    y: int
    width: int
    gap: int = GAP
    nodes: list[Node] = field(default_factory=list)

    def add(self, kind: str | Graph, look: Look = Look(), /, **inputs) -> Node:
        """A node of this class, or a block, below those that the column has.

        Raises:
            ValueError: the class is not in ``schemas.json`` or has no such input, an input that has to be connected or
                chosen is missing, or a link's type is not the input's.
        """
        if isinstance(kind, str):
            schema = schema_of(kind)
        else:
            schema = kind.schema()
            self.graph.blocks[schema.type] = kind
        try:
            values, links = _inputs(schema, inputs)
        except ValueError as error:
            raise ValueError(f"{self.graph.name}, {look.title or schema.title}: {error}") from None
        return self._add(schema, look, values, links, frozenset(inputs))

    def note(self, title: str, text: str, height: int) -> Node:
        """A note in Markdown."""
        return self._add(NOTE, Look(title, height), {"text": text.strip() + "\n"}, {}, frozenset())

    def _add(self, schema: Schema, look: Look, *inputs) -> Node:
        y = self.nodes[-1].box.bottom + self.gap if self.nodes else self.y
        node = Node(self.graph.next_id(), schema, look, *inputs, self.x, y + TITLE, self.width)
        self.nodes.append(node)
        self.graph.nodes.append(node)
        return node


def _inputs(schema: Schema, given: dict) -> tuple[dict[str, object], dict[str, Output]]:
    """Values of the widgets, and links."""
    known = {each.name: each for each in schema.inputs}
    for name in given:
        if name not in known:
            raise ValueError(f"has no input {name!r}; expected some of {list(known)}")
    links = {name: each for name, each in given.items() if isinstance(each, Output)}
    for name, source in links.items():
        source.connect(known[name])
    values = {}
    for name, each in known.items():
        if each.widget:
            values[name] = links[name].value(each) if name in links else given.get(name, each.default)
            if values[name] is None:
                raise ValueError(f"{name} needs a value; its default would be a host's first choice")
        elif not each.optional and name not in links:
            raise ValueError(f"{name} is not connected")
    return values, links


class Graph:
    """A workflow. Columns stand from left to right, nodes in them from the top down."""

    def __init__(self, name: str, *, first_id: int = 1):
        self.name = name
        self.nodes: list[Node] = []
        self.columns: list[Column] = []
        self.groups: list[tuple[str, list[Node]]] = []
        self.blocks: dict[str, Graph] = {}  # the blocks that it has, by their ids
        self.app: tuple[Sequence[tuple[Node, str]], Sequence[Node]] | None = None
        self.last_id = first_id - 1

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def column(self, width: int = 300, *, x: int | None = None, y: int = 0, gap: int = GAP) -> Column:
        """A column right of those that are there, or at ``x``, its first node's title bar at ``y``."""
        if x is None:
            x = max((each.x + each.width + GAP for each in self.columns), default=0)
        self.columns.append(Column(self, x, y, width, gap))
        return self.columns[-1]

    def node(self, title: str) -> Node:
        """The one node with this title."""
        (found,) = (node for node in self.nodes if node.title == title)
        return found

    def group(self, title: str, *members: Node | Column) -> None:
        """A frame around nodes, or all nodes that columns have by now."""
        nodes = [node for each in members for node in (each.nodes if isinstance(each, Column) else [each])]
        self.groups.append((title, nodes))

    def open_as_app(self, inputs: Sequence[tuple[Node, str]], outputs: Sequence[Node]) -> None:
        """Let the front end open it in its app mode, with these widgets, each a node and a name, and these results."""
        self.app = inputs, outputs

    def refuse_overlaps(self) -> None:
        """ValueError where two nodes lie over each other."""
        for place, node in enumerate(self.nodes):
            for other in self.nodes[:place]:
                if node.box.overlaps(other.box):
                    raise ValueError(f"{self.name}: {node.title!r} lies over {other.title!r}; move or widen a column")

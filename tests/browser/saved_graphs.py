"""What a saved graph holds, so that what opens can be compared with what is in the file."""

LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
INPUTS, OUTPUTS = -10, -20  # the ids that a block's own inputs and outputs have at the ends of links


def graphs(saved):
    """The graph and those of its blocks."""
    return [saved, *((saved.get("definitions") or {}).get("subgraphs") or ())]


def links(saved):
    """Every link: its graph, and the nodes and the sockets' names at its ends; None where there is no such end."""
    found = set()
    for graph in graphs(saved):
        nodes = {node["id"]: node for node in graph["nodes"]}
        nodes |= {INPUTS: {"outputs": graph.get("inputs")}, OUTPUTS: {"inputs": graph.get("outputs")}}
        known = dict(_numbered(link) for link in graph["links"])
        asked = {socket.get("link") for node in graph["nodes"] for socket in node.get("inputs", ())} - {None}
        for number in asked | known.keys():
            origin, output, target, taken = known.get(number, (None,) * 4)
            ends = origin, _name(nodes, origin, "outputs", output), target, _name(nodes, target, "inputs", taken)
            found.add((graph["id"], *ends))
    return found


def values(saved):
    """What the widgets of each node hold."""
    return {
        (graph["id"], node["id"], node["type"]): node.get("widgets_values", [])
        for graph in graphs(saved)
        for node in graph["nodes"]
    }


def models(saved):
    """The files that its loaders name with where they come from."""
    return [model for graph in graphs(saved) for node in graph["nodes"] for model in models_of(node)]


def models_of(node):
    return node.get("properties", {}).get("models", ())


def _numbered(link):
    number, *ends = link if isinstance(link, list) else [link[name] for name in LINK]
    return number, tuple(ends[:4])


def _name(nodes, node, side, place):
    sockets = nodes.get(node, {}).get(side) or ()
    return sockets[place]["name"] if place is not None and place < len(sockets) else None

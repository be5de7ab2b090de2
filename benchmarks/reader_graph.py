"""The parts of a reader graph: the part before reading, and the number of nodes of each part."""

import onnx


def reading_branch(reader: onnx.ModelProto) -> onnx.GraphProto:
    """Return the branch that builds the bank and reads.

    Raises: ValueError if the graph is no reader.
    """
    branches = [
        attribute.g
        for node in reader.graph.node
        if node.op_type == "If"
        for attribute in node.attribute
        if attribute.name == "then_branch"
    ]
    if len(branches) != 1:
        raise ValueError(f"reader; got {len(branches)} branches; expected the one that reads")
    return branches[0]


def count_nodes(graph: onnx.GraphProto) -> int:
    """Return the nodes of a graph and of the branches inside it."""
    inner = [each.g for node in graph.node for each in node.attribute if each.type == onnx.AttributeProto.GRAPH]
    return len(graph.node) + sum(map(count_nodes, inner))


def cut_at_bank(reader: onnx.ModelProto) -> onnx.ModelProto:
    """Return the reader ended where reading begins: hidden out, and the bank and the query after normalisation.

    The branch is laid out in the graph itself, so what asking for it costs counts as reading.
    """
    branch = reading_branch(reader)
    nodes = [*(node for node in reader.graph.node if node.op_type != "If"), *branch.node]
    starts = [node.output[0] for node in branch.node if node.op_type == "LayerNormalization"]
    hidden = next(output for output in reader.graph.output if output.name == "hidden")
    needed = _needed(nodes, [hidden.name, *starts])
    cut = onnx.ModelProto()
    cut.CopyFrom(reader)
    for part in (cut.graph.node, cut.graph.output):
        del part[:]
    cut.graph.node.extend(node for node in nodes if node.output[0] in needed)
    cut.graph.initializer.extend(branch.initializer)
    cut.graph.output.append(hidden)
    cut.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in starts)
    return cut


def _needed(nodes: list[onnx.NodeProto], outputs: list[str]) -> set[str]:
    """Return the first outputs of the nodes that some outputs depend on."""
    makers = {output: node for node in nodes for output in node.output}
    needed: set[str] = set()
    pending = list(outputs)
    while pending:
        node = makers.get(pending.pop())
        if node is not None and node.output[0] not in needed:
            needed.add(node.output[0])
            pending.extend(node.input)
    return needed

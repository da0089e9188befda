//! Writes ONNX models for tests: `ModelProto` in protobuf's wire format, field by field.

/// A message under construction.
#[derive(Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Adds an integer.
    pub(crate) fn number(mut self, field: u32, value: i64) -> Message {
        self.varint(u64::from(field << 3));
        self.varint(value.cast_unsigned());
        self
    }

    /// Adds text, bytes or a message.
    pub(crate) fn bytes(mut self, field: u32, content: impl AsRef<[u8]>) -> Message {
        self.varint(u64::from(field << 3 | 2));
        self.varint(content.as_ref().len() as u64);
        self.0.extend_from_slice(content.as_ref());
        self
    }

    fn each<T>(self, items: &[T], add: impl Fn(Message, &T) -> Message) -> Message {
        items.iter().fold(self, add)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A dimension.
#[derive(Clone, Copy)]
pub(crate) enum Dim {
    Of(i64),
    Any,
}

/// An input or output with elements of ONNX's type `number`; `None`: of unknown rank.
pub(crate) fn value(name: &str, number: i64, shape: Option<&[Dim]>) -> Message {
    let dim = |shape: Message, dim: &Dim| match dim {
        Dim::Of(size) => shape.bytes(1, Message::default().number(1, *size)),
        Dim::Any => shape.bytes(1, Message::default().bytes(2, "n")),
    };
    let mut tensor = Message::default().number(1, number);
    if let Some(dims) = shape {
        tensor = tensor.bytes(2, Message::default().each(dims, dim));
    }
    Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, tensor))
}

/// An input that is a sequence of tensors of floats.
pub(crate) fn sequence(name: &str) -> Message {
    let element = Message::default().bytes(1, Message::default().number(1, 1).bytes(2, Message::default()));
    let kind = Message::default().bytes(4, Message::default().bytes(1, element));
    Message::default().bytes(1, name).bytes(2, kind)
}

/// A node of ONNX's own operators.
pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    Message::default()
        .each(inputs, |node, name| node.bytes(1, name))
        .each(outputs, |node, name| node.bytes(2, name))
        .bytes(4, op)
}

/// Adds an attribute that is a graph to a node.
pub(crate) fn with_graph(node: Message, name: &str, graph: &Message) -> Message {
    const KIND_GRAPH: i64 = 5;
    node.bytes(5, Message::default().bytes(1, name).bytes(6, graph).number(20, KIND_GRAPH))
}

/// Adds an attribute that is an integer to a node.
pub(crate) fn with_number(node: Message, name: &str, value: i64) -> Message {
    const KIND_INT: i64 = 2;
    node.bytes(5, Message::default().bytes(1, name).number(3, value).number(20, KIND_INT))
}

/// A constant of a graph, with its raw data.
pub(crate) fn initializer(name: &str, number: i64, shape: &[i64], data: &[u8]) -> Message {
    let dims = Message::default().each(shape, |tensor, dim| tensor.number(1, *dim));
    dims.number(2, number).bytes(8, name).bytes(9, data)
}

/// A constant whose data are in a file beside the model.
pub(crate) fn external(name: &str, number: i64, shape: &[i64], location: &str) -> Message {
    let dims = Message::default().each(shape, |tensor, dim| tensor.number(1, *dim));
    let entry = Message::default().bytes(1, "location").bytes(2, location);
    dims.number(2, number).bytes(8, name).bytes(13, entry).number(14, 1)
}

/// A graph.
pub(crate) fn graph(
    nodes: &[Message],
    constants: &[Message],
    inputs: &[Message],
    outputs: &[Message],
) -> Message {
    Message::default()
        .each(nodes, |graph, node| graph.bytes(1, node))
        .bytes(2, "graph")
        .each(constants, |graph, constant| graph.bytes(5, constant))
        .each(inputs, |graph, input| graph.bytes(11, input))
        .each(outputs, |graph, output| graph.bytes(12, output))
}

/// A domain of operators that ONNX Runtime does not know.
pub(crate) const FOREIGN: &str = "my.ops";

/// A model with `graph`, of this version of the format, for this opset.
pub(crate) fn versioned(ir_version: i64, opset: i64, graph: &Message) -> Vec<u8> {
    let opset = Message::default().bytes(1, "").number(2, opset);
    let foreign = Message::default().bytes(1, FOREIGN).number(2, 1);
    Message::default().number(1, ir_version).bytes(7, graph).bytes(8, opset).bytes(8, foreign).0
}

/// A model with `graph`.
pub(crate) fn model(graph: &Message) -> Vec<u8> {
    versioned(10, 21, graph)
}

/// A graph that returns its input `x` as `y`.
pub(crate) fn identity(number: i64, shape: Option<&[Dim]>) -> Message {
    graph(
        &[node("Identity", &["x"], &["y"])],
        &[],
        &[value("x", number, shape)],
        &[value("y", number, shape)],
    )
}

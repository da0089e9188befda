//! Small `.tflite` files for tests, written by hand.

/// A field of a table.
pub(super) enum Field {
    Byte(u8),
    Word(i32),
    Table(Fields),
    Tables(Vec<Fields>),
    Numbers(Vec<i32>),
    /// A text, or other bytes.
    Bytes(Vec<u8>),
}

/// The fields of a table, by slot.
pub(super) type Fields = Vec<(usize, Field)>;

/// The code of an operator, its inputs and outputs, and its other fields.
pub(super) type Op = (i32, Vec<i32>, Vec<i32>, Fields);

/// A graph: tensors, inputs, outputs and operators.
pub(super) struct Graph {
    pub(super) tensors: Vec<Fields>,
    pub(super) inputs: Vec<i32>,
    pub(super) outputs: Vec<i32>,
    pub(super) operators: Vec<Op>,
}

/// Returns a tensor of the type with this number, with the content of `buffer`; buffer 0 is empty.
pub(super) fn tensor(name: &str, dtype: u8, shape: &[i32], buffer: i32) -> Fields {
    vec![
        (0, Field::Numbers(shape.to_vec())),
        (1, Field::Byte(dtype)),
        (2, Field::Word(buffer)),
        (3, Field::Bytes(name.into())),
    ]
}

/// Returns the file of these graphs, of which each operator has a code of its own, with these buffers after the empty one.
pub(super) fn file(graphs: Vec<Graph>, buffers: &[&[u8]]) -> Vec<u8> {
    let mut codes = Vec::new();
    let mut tables = Vec::new();
    for graph in graphs {
        let mut operators = Vec::new();
        for (code, inputs, outputs, rest) in graph.operators {
            let index = Field::Word(i32::try_from(codes.len()).unwrap());
            let deprecated = Field::Byte(u8::try_from(code.min(127)).unwrap());
            codes.push(vec![(0, deprecated), (2, Field::Word(1)), (3, Field::Word(code))]);
            let mut fields = vec![(0, index), (1, Field::Numbers(inputs)), (2, Field::Numbers(outputs))];
            fields.extend(rest);
            operators.push(fields);
        }
        tables.push(vec![
            (0, Field::Tables(graph.tensors)),
            (1, Field::Numbers(graph.inputs)),
            (2, Field::Numbers(graph.outputs)),
            (3, Field::Tables(operators)),
        ]);
    }
    let content = |bytes: &&[u8]| vec![(0, Field::Bytes(bytes.to_vec()))];
    let buffers = std::iter::once(Vec::new()).chain(buffers.iter().map(content)).collect();
    write(vec![
        (0, Field::Word(3)),
        (1, Field::Tables(codes)),
        (2, Field::Tables(tables)),
        (4, Field::Tables(buffers)),
    ])
}

/// Writes a file with this root.
pub(super) fn write(root: Fields) -> Vec<u8> {
    let mut bytes = b"\0\0\0\0TFL3".to_vec();
    let at = table(&mut bytes, root);
    bytes[..4].copy_from_slice(&word(at));
    bytes
}

fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_le_bytes()
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// Writes a table: its vtable, a place of four bytes for each field, then what these refer to. Returns its position.
fn table(bytes: &mut Vec<u8>, fields: Fields) -> usize {
    align(bytes, 4);
    let vtable = bytes.len();
    let slots = fields.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
    let size = 4 + 2 * slots;
    bytes.extend_from_slice(&u16::try_from(size).unwrap().to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(4 + 4 * fields.len()).unwrap().to_le_bytes());
    bytes.resize(vtable + size, 0);
    align(bytes, 4);
    let at = bytes.len();
    bytes.extend_from_slice(&word(at - vtable));
    bytes.resize(at + 4 + 4 * fields.len(), 0);
    for (index, (slot, field)) in fields.into_iter().enumerate() {
        let place = 4 + 4 * index;
        bytes[vtable + 4 + 2 * slot..][..2].copy_from_slice(&u16::try_from(place).unwrap().to_le_bytes());
        let value = value(bytes, at + place, field);
        bytes[at + place..][..4].copy_from_slice(&value);
    }
    at
}

/// Returns the four bytes of a field at `place`, after writing what it refers to.
fn value(bytes: &mut Vec<u8>, place: usize, field: Field) -> [u8; 4] {
    let start = match field {
        Field::Byte(byte) => return [byte, 0, 0, 0],
        Field::Word(number) => return number.to_le_bytes(),
        Field::Table(fields) => table(bytes, fields),
        Field::Numbers(numbers) => {
            align(bytes, 4);
            let start = bytes.len();
            bytes.extend_from_slice(&word(numbers.len()));
            numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
            start
        }
        Field::Bytes(content) => {
            // The content of a buffer is aligned, and behind a text is a NUL.
            align(bytes, 16);
            bytes.extend_from_slice(&[0; 12]);
            let start = bytes.len();
            bytes.extend_from_slice(&word(content.len()));
            bytes.extend_from_slice(&content);
            bytes.push(0);
            start
        }
        Field::Tables(tables) => {
            align(bytes, 4);
            let start = bytes.len();
            bytes.extend_from_slice(&word(tables.len()));
            bytes.resize(start + 4 + 4 * tables.len(), 0);
            for (index, fields) in tables.into_iter().enumerate() {
                let at = table(bytes, fields);
                let place = start + 4 + 4 * index;
                bytes[place..][..4].copy_from_slice(&word(at - place));
            }
            start
        }
    };
    word(start - place)
}

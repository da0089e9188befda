//! The schemas of tensors in JSON: lists in lists, as their shapes say.

use super::element::Element;
use super::text::Object;
use crate::engine::signature::TensorSpec;

/// Most dimensions that are described one by one; tensors of more are lists of any depth.
const MOST: usize = 16;

/// Returns the number of rows that all of `specs` have in the row format: -1 for any; `None` if they have no rows, or not
/// equally many.
pub(super) fn rows(specs: &[TensorSpec]) -> Option<i64> {
    let mut all = -1;
    for spec in specs {
        match spec.shape.as_deref() {
            Some([]) => return None,
            Some([first, ..]) if *first >= 0 => {
                if all >= 0 && all != *first {
                    return None;
                }
                all = *first;
            }
            Some(_) | None => {}
        }
    }
    // A list of no rows is refused.
    (all != 0).then_some(all)
}

/// Returns the dimensions of a row, if there are any rows.
pub(super) fn of_row(shape: Option<&[i64]>) -> Option<&[i64]> {
    shape.map(|dims| dims.get(1..).unwrap_or_default())
}

/// Writes the schema of a tensor of this `shape`, -1 for unknown dimensions; `None`: of unknown rank. `element` is `None` if
/// the dtype has no form in JSON.
pub(super) fn tensor(schema: &mut Object<'_>, shape: Option<&[i64]>, element: Option<Element>) {
    match (shape, element) {
        (_, None) => schema.text("description", "This dtype has no form in JSON."),
        (Some(dims), Some(element)) if dims.len() <= MOST => nested(schema, dims, element),
        (_, Some(element)) => any_rank(schema, element),
    }
}

/// At most [`MOST`] levels.
fn nested(schema: &mut Object<'_>, dims: &[i64], element: Element) {
    let Some((first, rest)) = dims.split_first() else { return element.write(schema) };
    schema.text("type", "array");
    if *first >= 0 {
        schema.integer("minItems", *first);
        schema.integer("maxItems", *first);
    }
    schema.object("items", |items| nested(items, rest, element));
}

/// Writes a reference to the schema of lists of any depth.
pub(super) fn any_rank(schema: &mut Object<'_>, element: Element) {
    schema.schema(&component(element));
}

/// Writes the component of lists of any depth, as the member of `schemas`.
pub(super) fn write_any_rank(schemas: &mut Object<'_>, element: Element) {
    schemas.object(&component(element), |schema| {
        schema.list("anyOf", |list| {
            list.object(|one| element.write(one));
            list.object(|one| {
                one.text("type", "array");
                one.object("items", |items| any_rank(items, element));
            });
        });
    });
}

fn component(element: Element) -> String {
    format!("Nested.{}", element.name())
}

#[cfg(test)]
mod tests {
    use super::super::text::Text;
    use super::*;
    use crate::tensor::DType;
    use serde_json::{Value, json};

    fn schema(shape: Option<&[i64]>, element: Option<Element>) -> Value {
        let mut text = Text::new(10_000);
        text.object(|object| tensor(object, shape, element));
        serde_json::from_slice(&text.finish().unwrap()).unwrap()
    }

    fn specs(shapes: &[Option<&[i64]>]) -> Vec<TensorSpec> {
        let spec = |shape: &Option<&[i64]>| TensorSpec {
            alias: String::new(),
            tensor: String::new(),
            dtype: DType::Bool,
            shape: shape.map(<[i64]>::to_vec),
        };
        shapes.iter().map(spec).collect()
    }

    #[test]
    fn shapes_are_lists_in_lists() {
        let of = |shape| schema(shape, Some(Element::Bool));
        let nested = json!({"$ref": "#/components/schemas/Nested.bool"});
        assert_eq!(of(Some(&[])), json!({"type": "boolean"}));
        assert_eq!(of(Some(&[-1])), json!({"type": "array", "items": {"type": "boolean"}}));
        assert_eq!(
            of(Some(&[-1, 3, 0])),
            json!({"type": "array", "items": {
                "type": "array", "minItems": 3, "maxItems": 3, "items": {
                    "type": "array", "minItems": 0, "maxItems": 0, "items": {"type": "boolean"}}}})
        );
        assert_eq!(of(None), nested);
        assert_eq!(of(Some(&[1; 17])), nested);
        assert!(of(Some(&[-1; 16])).to_string().contains("boolean"));
        assert!(schema(Some(&[-1]), None)["description"].is_string());
    }

    #[test]
    fn lists_of_any_depth_name_themselves() {
        let mut text = Text::new(1000);
        text.object(|object| write_any_rank(object, Element::Bool));
        let written: Value = serde_json::from_slice(&text.finish().unwrap()).unwrap();
        let expected = json!({"anyOf": [
            {"type": "boolean"},
            {"type": "array", "items": {"$ref": "#/components/schemas/Nested.bool"}}]});
        assert_eq!(written, json!({"Nested.bool": expected}));
    }

    #[test]
    fn rows_are_what_all_have() {
        for (shapes, expected) in [
            (&[Some(&[-1][..])][..], Some(-1)),
            (&[None], Some(-1)),
            (&[Some(&[-1, 2]), Some(&[4, 3]), None], Some(4)),
            (&[Some(&[4]), Some(&[4])], Some(4)),
            (&[Some(&[4]), Some(&[3])], None),
            (&[Some(&[-1]), Some(&[])], None),
            (&[Some(&[0, 2])], None),
            (&[], Some(-1)),
        ] {
            assert_eq!(rows(&specs(shapes)), expected, "{shapes:?}");
        }
        assert_eq!(of_row(Some(&[-1, 2])), Some(&[2][..]));
        assert_eq!(of_row(None), None);
    }
}

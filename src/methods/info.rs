//! Model status and metadata, from the registry.

use super::ServerState;
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::serving::SignatureDefMap;
use crate::pb::tensorflow::tensor_info::Encoding;
use crate::pb::tensorflow::tensor_shape_proto::Dim;
use crate::pb::tensorflow::{SignatureDef, TensorInfo, TensorShapeProto};
use crate::registry::{VersionChoice, VersionStatus};
use crate::servable::Servable;
use prost::Message;

/// Returns the status of every known version of `name`, newest first; of one version if `choice` is a number. A label
/// is ignored, as in TensorFlow Serving.
pub fn status(server: &ServerState, name: &str, choice: &VersionChoice) -> Result<Vec<VersionStatus>> {
    let version = match choice {
        VersionChoice::Version(version) => Some(*version),
        VersionChoice::Latest | VersionChoice::Label(_) => None,
    };
    server.registry.status(name, version)
}

/// Returns the chosen version and every signature of its meta graph.
pub fn metadata(server: &ServerState, name: &str, choice: &VersionChoice) -> Result<(i64, SignatureDefMap)> {
    let servable = server.registry.resolve(name, choice)?;
    Ok((servable.version(), signature_defs(&servable)?))
}

/// Returns the signatures of `servable` in TensorFlow Serving's form.
pub fn signature_defs(servable: &Servable) -> Result<SignatureDefMap> {
    let Some(map) = servable.signature_def_map() else {
        let defs = servable.signatures().iter().map(|(name, signature)| (name.clone(), def(signature)));
        return Ok(SignatureDefMap { signature_def: defs.collect() });
    };
    SignatureDefMap::decode(map)
        .map_err(|why| Error::new(Kind::Internal, format!("The model's signatures cannot be read: {why}")))
}

fn def(signature: &Signature) -> SignatureDef {
    let infos = |specs: &[TensorSpec]| specs.iter().map(|spec| (spec.alias.clone(), info(spec))).collect();
    SignatureDef {
        inputs: infos(&signature.inputs),
        outputs: infos(&signature.outputs),
        method_name: signature.method_name.clone(),
        ..SignatureDef::default()
    }
}

fn info(spec: &TensorSpec) -> TensorInfo {
    let dim = |size: &i64| Dim { size: *size, ..Dim::default() };
    let shape = TensorShapeProto {
        dim: spec.shape.iter().flatten().map(dim).collect(),
        unknown_rank: spec.shape.is_none(),
    };
    TensorInfo {
        encoding: Some(Encoding::Name(spec.tensor.clone())),
        dtype: spec.dtype as i32,
        tensor_shape: Some(shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn signatures_that_no_file_holds_are_told_in_the_same_form() {
        let spec = |alias: &str, shape| TensorSpec {
            alias: alias.to_owned(),
            tensor: format!("{alias}:0"),
            dtype: DType::Int64,
            shape,
        };
        let signature = Signature {
            name: "s".into(),
            method_name: "tensorflow/serving/predict".to_owned(),
            inputs: vec![spec("x", Some(vec![-1, 3]))],
            outputs: vec![spec("y", None)],
            defaults: Default::default(),
        };
        let def = def(&signature);
        assert_eq!(def.method_name, signature.method_name);
        let (x, y) = (&def.inputs["x"], &def.outputs["y"]);
        assert_eq!((x.dtype, &x.encoding), (9, &Some(Encoding::Name("x:0".to_owned()))));
        let sizes: Vec<i64> = x.tensor_shape.as_ref().unwrap().dim.iter().map(|dim| dim.size).collect();
        assert_eq!(sizes, [-1, 3]);
        assert!(y.tensor_shape.as_ref().unwrap().unknown_rank);
    }
}

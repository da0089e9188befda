//! Opens a frozen graph as a model of its own.

use super::session::Session;
use super::{Options, TensorFlow, saved_model};
use crate::engine::Model;
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::{DEFAULT_SIGNATURE, TensorSpec};
use crate::error::Result;
use crate::pb::tensorflow::tensor_info::Encoding;
use crate::pb::tensorflow::{MetaGraphDef, SignatureDef, TensorInfo, TensorShapeProto, tensor_shape_proto};
use prost::Message;
use std::path::Path;

impl TensorFlow {
    /// Opens `frozen`, as a model with one signature: `serving_default`.
    pub(in crate::engine) fn open_frozen(
        &self,
        frozen: &FrozenGraph,
        options: &Options,
    ) -> Result<Box<dyn Model>> {
        let infos =
            |specs: &[TensorSpec]| specs.iter().map(|spec| (spec.alias.clone(), info(spec))).collect();
        let signature = SignatureDef {
            inputs: infos(&frozen.inputs),
            outputs: infos(&frozen.outputs),
            method_name: "tensorflow/serving/predict".to_owned(),
            ..SignatureDef::default()
        };
        let meta_graph = MetaGraphDef {
            // Its constants are shared.
            graph_def: Some(frozen.graph.clone()),
            signature_def: [(DEFAULT_SIGNATURE.to_owned(), signature)].into(),
            ..MetaGraphDef::default()
        };
        let meta = saved_model::of(Path::new(""), meta_graph)?;
        Ok(Box::new(Session::open(self.api, &frozen.graph.encode_to_vec(), options, meta)?))
    }
}

fn info(spec: &TensorSpec) -> TensorInfo {
    let dim = |size: &i64| tensor_shape_proto::Dim { size: *size, ..tensor_shape_proto::Dim::default() };
    TensorInfo {
        encoding: Some(Encoding::Name(spec.tensor.clone())),
        dtype: spec.dtype as i32,
        tensor_shape: Some(TensorShapeProto {
            dim: spec.shape.iter().flatten().map(dim).collect(),
            unknown_rank: spec.shape.is_none(),
        }),
    }
}

//! Freezes a signature of a loaded version: a graph without functions and variables.
//!
//! TensorFlow itself inlines the functions and takes loops and branches apart. For that, a second session runs the
//! signature's part of the graph once, without optimisations, and reports the graph that it ran. Its variables have
//! the values, and the very memory, of those that serve; there they become constants.

#![allow(unsafe_code)]

mod graph;
mod plan;
mod rewrite;
#[cfg(test)]
mod tests;

use super::by_name::ByName;
use super::ffi::Api;
use super::session::{Buffer, Configured, IN_CALLER, Session, buffer};
use super::tensors::Owned;
use super::{Status, c_string};
use crate::engine::frozen::FrozenGraph;
use crate::engine::signature::TensorSpec;
use crate::engine::{Endpoint, Model};
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::{
    ConfigProto, GraphDef, GraphOptions, OpDef, OptimizerOptions, RewriterConfig, RunOptions,
    optimizer_options,
};
use crate::pb::wire::{Fields, Value};
use crate::tensor::Tensor;
use bytes::Bytes;
use plan::Plan;
use prost::Message;
use std::ffi::CString;

/// Operations with state that a frozen graph may have, or had: variables, which become constants; calls; and those
/// whose state is that of one run.
const STATE_THAT_MAY_GO: [&str; 16] = [
    "VarHandleOp",
    "VariableV2",
    "Variable",
    "ReadVariableOp",
    "ResourceGather",
    "ResourceGatherNd",
    "VariableShape",
    "StatefulPartitionedCall",
    "If",
    "While",
    "Case",
    "Assert",
    "TensorArrayV3",
    "TensorArrayReadV3",
    "TensorArrayWriteV3",
    "TensorArrayGatherV3",
];

impl Session {
    /// Freezes `signature`. `feeds`: a request to it that succeeds. Changes nothing of this session.
    pub(in crate::engine) fn freeze(
        &self,
        signature: &str,
        feeds: &[(Endpoint, Tensor)],
    ) -> Result<FrozenGraph> {
        let unknown = || Error::not_found(format!("There is no signature {signature}"));
        let found = self.meta.signatures.get(signature).ok_or_else(unknown)?;
        if !self.changes_nothing(signature) {
            return Err(Error::new(Kind::Unimplemented, "Its runs may have side effects"));
        }
        let plan = plan::of(self.graph_def()?, found)?;
        self.refuse_state(&plan)?;
        let read: Vec<&str> = plan.variables.iter().map(|variable| variable.value.as_str()).collect();
        let values = if read.is_empty() { Vec::new() } else { self.values(&read)? };
        let fed = self.fed(&found.inputs, feeds)?;
        let mut inlined = inlined(self.api, &plan, &values, &fed)?;
        rewrite::restore_operations(&mut inlined, |op| self.definition(op))?;
        rewrite::frozen(inlined, plan, values)
    }

    /// Returns the graph that serves.
    fn graph_def(&self) -> Result<GraphDef> {
        let frozen = || Error::new(Kind::Unimplemented, "It is frozen already");
        let graph = self.graph().ok_or_else(frozen)?;
        let (written, status) = (Buffer::new(self.api), Status::new(self.api));
        // SAFETY: graph, buffer and status are live.
        unsafe { (self.api.graph_to_graph_def)(graph, written.1, status.raw) };
        status.check()?;
        written.message()
    }

    /// Refuses operations that have a state of their own: random numbers, tables.
    fn refuse_state(&self, plan: &Plan) -> Result<()> {
        for op in plan.ops.iter().filter(|op| !STATE_THAT_MAY_GO.contains(&op.as_str())) {
            if self.definition(op)?.is_stateful {
                return Err(Error::new(Kind::Unimplemented, format!("The operation {op} has state")));
            }
        }
        Ok(())
    }

    /// Returns what TensorFlow knows of the operation `op`.
    fn definition(&self, op: &str) -> Result<OpDef> {
        let frozen = || Error::new(Kind::Unimplemented, "It is frozen already");
        let graph = self.graph().ok_or_else(frozen)?;
        let (name, written, status) = (c_string(op)?, Buffer::new(self.api), Status::new(self.api));
        // SAFETY: graph, name, buffer and status are live.
        unsafe { (self.api.graph_op_def)(graph, name.as_ptr(), written.1, status.raw) };
        status.check()?;
        written.message()
    }

    /// Returns the values of `inputs`, in their order.
    fn fed(&self, inputs: &[TensorSpec], feeds: &[(Endpoint, Tensor)]) -> Result<Vec<Tensor>> {
        let value = |spec: &TensorSpec| {
            let endpoint = self.endpoint(&spec.tensor);
            let feed = feeds.iter().find(|(fed, _)| Some(*fed) == endpoint);
            let missing = || Error::invalid(format!("A value for the input {} is missing", spec.alias));
            feed.map(|(_, tensor)| tensor.clone()).ok_or_else(missing)
        };
        inputs.iter().map(value).collect()
    }
}

/// Runs `plan` in a session of its own, with `values` of its variables and `fed` inputs; returns the graph that it ran.
fn inlined(api: &'static Api, plan: &Plan, values: &[Tensor], fed: &[Tensor]) -> Result<GraphDef> {
    let options = Configured::new(api, &without_optimisations().encode_to_vec(), ConfigProto::default())?;
    let session = ByName::open(api, options.1, &plan.graph.encode_to_vec())?;
    let in_caller = Buffer(api, buffer(api, IN_CALLER, None));
    let (mut assigned, mut targets, mut feeds) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (variable, value)) in plan.variables.iter().zip(values).enumerate() {
        let feed = (c_string(&format!("{}:0", variable.value_node(place)))?, Owned::new(api, value)?);
        if variable.is_resource {
            assigned.push(feed);
            targets.push(c_string(&plan::assign_node(place))?);
        } else {
            feeds.push(feed);
        }
    }
    if !targets.is_empty() {
        session.run_targets(&assigned, &[], &targets, &in_caller, None)?;
    }
    drop(assigned);
    for (spec, tensor) in plan.inputs.iter().zip(fed) {
        feeds.push((c_string(&spec.tensor)?, Owned::new(api, tensor)?));
    }
    let fetches = (0..plan.outputs.len()).map(|place| c_string(&format!("{}:0", plan::output_node(place))));
    let fetches: Vec<CString> = fetches.collect::<Result<_>>()?;
    let reporting = RunOptions {
        inter_op_thread_pool: IN_CALLER,
        output_partition_graphs: true,
        ..RunOptions::default()
    };
    let (reporting, metadata) = (Buffer::of(api, &reporting), Buffer::new(api));
    session.run_targets(&feeds, &fetches, &[], &reporting, Some(&metadata))?;
    graph_of(metadata)
}

/// Returns the configuration of a session that runs the graph as it is, on the CPU alone.
fn without_optimisations() -> ConfigProto {
    let graph_options = GraphOptions {
        optimizer_options: Some(OptimizerOptions {
            do_function_inlining: true,
            opt_level: optimizer_options::Level::L0 as i32,
            global_jit_level: optimizer_options::GlobalJitLevel::Off as i32,
            ..OptimizerOptions::default()
        }),
        rewrite_options: Some(RewriterConfig { disable_meta_optimizer: true, ..RewriterConfig::default() }),
        ..GraphOptions::default()
    };
    ConfigProto {
        device_count: [("GPU".to_owned(), 0)].into(),
        // Runs in its caller's thread: needs no pool.
        inter_op_parallelism_threads: -1,
        allow_soft_placement: true,
        graph_options: Some(graph_options),
        ..ConfigProto::default()
    }
}

/// The field of `RunMetadata` that has the graphs that were run, one for each device.
const PARTITION_GRAPHS: u32 = 3;

/// Returns the one graph that a run reported. Its constants stay in TensorFlow's memory.
fn graph_of(metadata: Buffer) -> Result<GraphDef> {
    let bytes = Bytes::from_owner(metadata);
    let mut graphs = Fields::new(&bytes).filter_map(|field| match field {
        Ok((PARTITION_GRAPHS, Value::Bytes(graph))) => Some(bytes.slice_ref(graph)),
        _ => None,
    });
    let (Some(graph), None) = (graphs.next(), graphs.next()) else {
        return Err(Error::new(Kind::Unimplemented, "The graph does not run on one device"));
    };
    GraphDef::decode(graph)
        .map_err(|why| Error::internal(format!("TensorFlow's graph cannot be read: {why}")))
}

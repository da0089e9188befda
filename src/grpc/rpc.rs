//! The calls that are answered without tonic, by path.

use super::message::Locate;
use crate::pb;

/// One method of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rpc {
    Predict,
    Classify,
    Regress,
    MultiInference,
    GetModelMetadata,
    GetModelStatus,
    HandleReloadConfigRequest,
    Profile,
    Terminate,
    Monitor,
}

impl Rpc {
    /// The method at `path` (`/service/method`).
    pub(super) fn at(path: &str) -> Option<Rpc> {
        let (service, method) = path.strip_prefix("/tensorflow.")?.split_once('/')?;
        Some(match (service, method) {
            ("serving.PredictionService", "Predict") => Rpc::Predict,
            ("serving.PredictionService", "Classify") => Rpc::Classify,
            ("serving.PredictionService", "Regress") => Rpc::Regress,
            ("serving.PredictionService", "MultiInference") => Rpc::MultiInference,
            ("serving.PredictionService", "GetModelMetadata") => Rpc::GetModelMetadata,
            ("serving.ModelService", "GetModelStatus") => Rpc::GetModelStatus,
            ("serving.ModelService", "HandleReloadConfigRequest") => Rpc::HandleReloadConfigRequest,
            ("ProfilerService", "Profile") => Rpc::Profile,
            ("ProfilerService", "Terminate") => Rpc::Terminate,
            ("ProfilerService", "Monitor") => Rpc::Monitor,
            _ => return None,
        })
    }

    /// Whether it belongs to the profiler, which can be turned off.
    pub(super) fn profiles(self) -> bool {
        matches!(self, Rpc::Profile | Rpc::Terminate | Rpc::Monitor)
    }

    /// How the part of a message that is worth aligning is found before it has arrived.
    pub(super) fn locate(self) -> Option<Locate> {
        (self == Rpc::Predict).then_some(pb::tensor::locate_numbers as Locate)
    }
}

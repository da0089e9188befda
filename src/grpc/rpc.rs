//! The calls that this door answers itself, by path.

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
}

impl Rpc {
    /// The method at `path` (`/service/method`).
    pub(super) fn at(path: &str) -> Option<Rpc> {
        let (service, method) = path.strip_prefix("/tensorflow.serving.")?.split_once('/')?;
        Some(match (service, method) {
            ("PredictionService", "Predict") => Rpc::Predict,
            ("PredictionService", "Classify") => Rpc::Classify,
            ("PredictionService", "Regress") => Rpc::Regress,
            ("PredictionService", "MultiInference") => Rpc::MultiInference,
            ("PredictionService", "GetModelMetadata") => Rpc::GetModelMetadata,
            ("ModelService", "GetModelStatus") => Rpc::GetModelStatus,
            ("ModelService", "HandleReloadConfigRequest") => Rpc::HandleReloadConfigRequest,
            _ => return None,
        })
    }

    /// How the part of a message that is worth aligning is found before it has arrived.
    pub(super) fn locate(self) -> Option<Locate> {
        (self == Rpc::Predict).then_some(pb::tensor::locate_numbers as Locate)
    }
}

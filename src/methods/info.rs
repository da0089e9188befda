//! Model status and metadata, from the registry.

use super::ServerState;
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::serving::SignatureDefMap;
use crate::registry::{VersionChoice, VersionStatus};
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
    let signatures = SignatureDefMap::decode(servable.signature_def_map())
        .map_err(|why| Error::new(Kind::Internal, format!("The model's signatures cannot be read: {why}")))?;
    Ok((servable.version(), signatures))
}

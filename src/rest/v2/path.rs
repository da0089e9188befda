//! The paths of the Open Inference Protocol.

use crate::open_inference::repository::Change;
use crate::open_inference::target::Names;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

/// What a path is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/v2`
    Server,
    /// `/v2/health/live`
    Live,
    /// `/v2/health/ready`
    Ready,
    /// `/v2/models/stats`
    AllStatistics,
    /// `/v2/models/NAME[/versions/VERSION | /labels/LABEL][/…]`
    Model(Named, What),
    /// `/v2/repository/index`
    Index,
    /// The same, of ready models alone: the body says that.
    ReadyIndex,
    /// `/v2/repository/models/NAME/load` and `…/unload`
    Control(Change, String),
    /// `/v2/systemsharedmemory[/region/NAME]/…`
    Memory(Memory, String),
    /// `/v2/cudasharedmemory…`
    CudaMemory,
}

/// What is asked of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// `/status`
    Status,
    /// `/register`
    Register,
    /// `/unregister`
    Unregister,
}

impl Memory {
    fn named(word: &str) -> Option<Memory> {
        match word {
            "status" => Some(Memory::Status),
            "register" => Some(Memory::Register),
            "unregister" => Some(Memory::Unregister),
            _ => None,
        }
    }
}

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing but its name: its metadata.
    Metadata,
    /// `/ready`
    Ready,
    /// `/config`
    Config,
    /// `/stats`
    Statistics,
    /// `/infer`
    Infer,
}

/// The names of a model in a path, decoded. What is not said is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// The model, or `NAME:SIGNATURE`.
    pub(super) model: String,
    pub(super) version: String,
    pub(super) label: String,
}

impl Named {
    /// Returns the names, with no signature besides.
    pub(super) fn names(&self) -> Names<'_> {
        Names { model: &self.model, version: &self.version, label: &self.label, signature: "" }
    }
}

/// Returns whether `path`, with or without a query, belongs to the protocol.
pub(in crate::rest) fn is_v2(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

/// Parses `path`, which has no query; `None` if there is nothing.
pub(super) fn parse(path: &str) -> Option<Target> {
    /// More parts than any path has.
    const MOST: usize = 8;
    let rest = path.strip_prefix("/v2")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Some(Target::Server);
    }
    let parts: SmallVec<[&str; MOST]> = rest.strip_prefix('/')?.split('/').take(MOST).collect();
    match parts[..] {
        ["health", "live"] => Some(Target::Live),
        ["health", "ready"] => Some(Target::Ready),
        ["models", "stats"] => Some(Target::AllStatistics),
        ["models", model, ref rest @ ..] => of_model(model, rest),
        ["repository", "index"] => Some(Target::Index),
        ["cudasharedmemory", ..] => Some(Target::CudaMemory),
        ["systemsharedmemory", "region", name, word] => {
            Some(Target::Memory(Memory::named(word)?, decoded(name)))
        }
        ["systemsharedmemory", word] => match Memory::named(word)? {
            // A region has a name.
            Memory::Register => None,
            asked @ (Memory::Status | Memory::Unregister) => Some(Target::Memory(asked, String::new())),
        },
        ["repository", "models", model, "load"] => Some(Target::Control(Change::Load, decoded(model))),
        ["repository", "models", model, "unload"] => Some(Target::Control(Change::Unload, decoded(model))),
        _ => None,
    }
}

fn of_model(model: &str, rest: &[&str]) -> Option<Target> {
    let (version, label, rest) = match *rest {
        ["versions", version, ref rest @ ..] => (version, "", rest),
        ["labels", label, ref rest @ ..] => ("", label, rest),
        ref rest => ("", "", rest),
    };
    let what = match *rest {
        [] => What::Metadata,
        ["ready"] => What::Ready,
        ["config"] => What::Config,
        ["stats"] => What::Statistics,
        ["infer"] => What::Infer,
        _ => return None,
    };
    let named = Named { model: decoded(model), version: decoded(version), label: decoded(label) };
    (!named.model.is_empty()).then_some(Target::Model(named, what))
}

/// Decodes percent-encoding; bytes that are not UTF-8 are replaced.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(model: &str, version: &str, label: &str) -> Named {
        Named { model: model.into(), version: version.into(), label: label.into() }
    }

    #[test]
    fn every_path_has_its_target() {
        for (path, target) in [
            ("/v2", Target::Server),
            ("/v2/", Target::Server),
            ("/v2/health/live", Target::Live),
            ("/v2/health/ready", Target::Ready),
            ("/v2/models/stats", Target::AllStatistics),
            ("/v2/models/m", Target::Model(named("m", "", ""), What::Metadata)),
            ("/v2/models/m/", Target::Model(named("m", "", ""), What::Metadata)),
            ("/v2/models/m/ready", Target::Model(named("m", "", ""), What::Ready)),
            ("/v2/models/m/versions/7", Target::Model(named("m", "7", ""), What::Metadata)),
            ("/v2/models/m/versions/7/infer", Target::Model(named("m", "7", ""), What::Infer)),
            ("/v2/models/m/labels/new/infer", Target::Model(named("m", "", "new"), What::Infer)),
            ("/v2/models/a%2Fb:s%3At/config", Target::Model(named("a/b:s:t", "", ""), What::Config)),
            ("/v2/models/m/versions/x/stats", Target::Model(named("m", "x", ""), What::Statistics)),
            ("/v2/repository/index", Target::Index),
            ("/v2/systemsharedmemory/status", Target::Memory(Memory::Status, String::new())),
            ("/v2/systemsharedmemory/unregister", Target::Memory(Memory::Unregister, String::new())),
            ("/v2/systemsharedmemory/region/a%2Fb/register", Target::Memory(Memory::Register, "a/b".into())),
            ("/v2/cudasharedmemory/status", Target::CudaMemory),
            ("/v2/cudasharedmemory/region/a/register", Target::CudaMemory),
            ("/v2/repository/models/m/load", Target::Control(Change::Load, "m".into())),
            ("/v2/repository/models/m/unload", Target::Control(Change::Unload, "m".into())),
        ] {
            assert_eq!(parse(path), Some(target), "{path}");
            assert!(is_v2(path));
        }
        for path in [
            "/v2x",
            "/v2/x",
            "/v2/models",
            "/v2/models//infer",
            "/v2/models/m/x",
            "/v2/models/m/versions/1/x",
            "/v2/models/m/infer/x",
            "/v2/models/m/versions/1/labels/x/infer",
            "/v2/health",
            "/v2/systemsharedmemory",
            "/v2/systemsharedmemory/register",
            "/v2/systemsharedmemory/region/a",
            "/v2/systemsharedmemory/region/a/status/x",
            "/v2//health/live",
            "/v2/repository/models/m",
            "/V2/health/live",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
        assert!(is_v2("/v2?x") && !is_v2("/v2x") && !is_v2("/v1/models/v2"));
    }

    proptest! {
        #[test]
        fn any_path_is_parsed_or_not(path in "/v2(/[a-z%:.]{0,9}|/models|/versions|/infer){0,9}") {
            let _ = parse(&path);
        }
    }
}

//! `tensorflow.ProfilerService`: the server's own phases as a profile that TensorBoard shows.

use super::GrpcService;
use super::reply::Reply;
use super::rpc::Received;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::pb::tensorflow::profiler::{XEvent, XEventMetadata, XLine, XPlane, XSpace, x_event};
use crate::pb::tensorflow::{
    MonitorRequest, MonitorResponse, ProfileRequest, ProfileResponse, TerminateRequest, TerminateResponse,
};
use crate::profile::{Phase, Profile, Recording, Span};
use prost::Message;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// The running profiles by session, each with the means to end it early.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Arc<Notify>>>);

impl Sessions {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session, removed when its profile ends, however that happens.
struct Session<'a> {
    sessions: &'a Sessions,
    id: String,
    ended: Arc<Notify>,
}

impl<'a> Session<'a> {
    fn begin(sessions: &'a Sessions, id: String) -> Result<Session<'a>> {
        let ended = Arc::new(Notify::new());
        let mut map = sessions.map();
        if map.contains_key(&id) {
            return Err(Error::new(
                Kind::AlreadyExists,
                format!("Profile session {id} is under way already"),
            ));
        }
        map.insert(id.clone(), ended.clone());
        drop(map);
        Ok(Session { sessions, id, ended })
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.sessions.map().remove(&self.id);
    }
}

/// Records for the requested time, or until `Terminate`; answers with the profile, or stores it if requested.
pub(super) async fn profile(service: &GrpcService, received: Received<ProfileRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let within = service.settings.profile_folder.as_deref();
    let path = if request.emit_xspace { None } else { stored_at(&request, within)? };
    let session = Session::begin(&service.sessions, request.session_id.clone())?;
    let recording = Recording::start();
    // Whether it ends early or on time, the profile is valid.
    let _in_time =
        tokio::time::timeout(Duration::from_millis(request.duration_ms), session.ended.notified()).await;
    let profile = recording.finish();
    let empty_trace = profile.spans.is_empty();
    let max_events = usize::try_from(request.max_events).ok().filter(|events| *events > 0);
    let space = space(&profile, max_events.unwrap_or(usize::MAX), &request.host_name);
    let xspace = match path {
        None => Some(space),
        Some(path) => {
            let work = move |_| store(&path, &space.encode_to_vec());
            service.server.scheduler.run(None, &Context::default(), work).await?;
            None
        }
    };
    Reply::of(&ProfileResponse { tool_data: Vec::new(), empty_trace, xspace })?.counted(context.memory)
}

/// Ends a profile early.
pub(super) fn terminate(service: &GrpcService, received: Received<TerminateRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let session = service.sessions.map().get(&request.session_id).cloned();
    let session = session
        .ok_or_else(|| Error::not_found(format!("No profile session {} is under way", request.session_id)))?;
    session.notify_one();
    Reply::of(&TerminateResponse {})?.counted(context.memory)
}

/// Records for the requested time and answers with a summary in text.
pub(super) async fn monitor(_: &GrpcService, received: Received<MonitorRequest>) -> Result<Reply> {
    let Received { message: request, context, .. } = received;
    let recording = Recording::start();
    tokio::time::sleep(Duration::from_millis(request.duration_ms)).await;
    let data = summary(&recording.finish(), &request);
    Reply::of(&MonitorResponse { data })?.counted(context.memory)
}

/// TensorBoard's folder for profiles within a log folder.
const PLUGIN: &str = "plugins/profile";

/// Returns the path where TensorBoard finds the profile, if the request names a place: TensorFlow's client names the
/// plugin's own folder, others may name the log folder above it. The log folder must exist, inside the folder `within`.
fn stored_at(request: &ProfileRequest, within: Option<&Path>) -> Result<Option<PathBuf>> {
    if request.repository_root.is_empty() {
        return Ok(None);
    }
    let root = Path::new(request.repository_root.trim_end_matches('/'));
    let root = if root.ends_with(PLUGIN) { root.ancestors().nth(2).unwrap_or(root) } else { root };
    if !root.is_dir() {
        return Err(Error::not_found(format!(
            "repository_root {} is no folder on the server: create it there, or ask with emit_xspace for the profile \
             in the reply",
            root.display()
        )));
    }
    let real = |path: &Path| path.canonicalize().ok();
    if !within.and_then(real).is_some_and(|within| real(root).is_some_and(|root| root.starts_with(within))) {
        return Err(Error::new(
            Kind::PermissionDenied,
            format!(
                "A profile may not be stored in {}: ask with emit_xspace for it in the reply, or start the server with \
                 --profile_folder",
                root.display()
            ),
        ));
    }
    let host = if request.host_name.is_empty() { "localhost" } else { &request.host_name };
    let file = format!("{}.xplane.pb", host.replace(':', "_"));
    let session = Path::new(&request.session_id);
    for (what, name) in [("session_id", session), ("host_name", Path::new(&file))] {
        // Each must be one plain name: a client must not reach another folder by `..` or `/`.
        let mut components = name.components();
        let plain = matches!(components.next(), Some(Component::Normal(only)) if only == name.as_os_str());
        if !plain {
            return Err(Error::invalid(format!("{what} must be a plain name, got {:?}", name.display())));
        }
    }
    Ok(Some(root.join(PLUGIN).join(session).join(file)))
}

fn store(path: &Path, profile: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, profile)).map_err(|why| {
        Error::new(
            Kind::FailedPrecondition,
            format!("The profile cannot be stored in {}: {why}", path.display()),
        )
    })
}

/// Makes one line per thread, with one event per phase.
fn space(profile: &Profile, max_events: usize, host_name: &str) -> XSpace {
    let mut lines: HashMap<u64, Vec<XEvent>> = HashMap::new();
    for span in profile.spans.iter().take(max_events) {
        lines.entry(span.thread).or_default().push(event(profile, span));
    }
    let timestamp_ns =
        nanoseconds(profile.started.1.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let line = |(thread, name): (&u64, &String)| {
        let mut events = lines.remove(thread)?;
        events.sort_by_key(|event| match event.data {
            Some(x_event::Data::OffsetPs(offset)) => offset,
            Some(x_event::Data::NumOccurrences(_)) | None => 0,
        });
        let id = i64::try_from(*thread).unwrap_or(0);
        let duration_ps = picoseconds(profile.took);
        Some(XLine { id, name: name.clone(), timestamp_ns, events, duration_ps, ..Default::default() })
    };
    let metadata = |phase: Phase| {
        let id = metadata_id(phase);
        (id, XEventMetadata { id, name: format!("servable::{}", phase.name()), ..Default::default() })
    };
    let plane = XPlane {
        // The name by which viewers recognize the host's threads.
        name: "/host:CPU".to_owned(),
        lines: profile.threads.iter().filter_map(line).collect(),
        event_metadata: [Phase::Decode, Phase::Queue, Phase::Run, Phase::Encode].map(metadata).into(),
        ..Default::default()
    };
    let hostnames = if host_name.is_empty() { Vec::new() } else { vec![host_name.to_owned()] };
    XSpace { planes: vec![plane], hostnames, ..Default::default() }
}

fn event(profile: &Profile, span: &Span) -> XEvent {
    XEvent {
        metadata_id: metadata_id(span.phase),
        // A phase that began before the recording is shown from the recording's start.
        data: Some(x_event::Data::OffsetPs(picoseconds(
            span.started.saturating_duration_since(profile.started.0),
        ))),
        duration_ps: picoseconds(span.took),
        stats: Vec::new(),
    }
}

fn metadata_id(phase: Phase) -> i64 {
    phase as i64 + 1
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn picoseconds(duration: Duration) -> i64 {
    nanoseconds(duration).saturating_mul(1000)
}

/// Summarizes runs and, at level 2, every phase, with their mean times.
fn summary(profile: &Profile, request: &MonitorRequest) -> String {
    let mut text = String::new();
    if request.timestamp {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        text += &format!("  Timestamp: {} s since the epoch\n", now.as_secs());
    }
    let all = [Phase::Decode, Phase::Queue, Phase::Run, Phase::Encode];
    let shown = if request.monitoring_level >= 2 { &all[..] } else { &[Phase::Run] };
    for phase in shown {
        let took: Vec<Duration> =
            profile.spans.iter().filter(|span| span.phase == *phase).map(|span| span.took).collect();
        let count = u32::try_from(took.len()).unwrap_or(u32::MAX);
        let mean = took.iter().sum::<Duration>().checked_div(count).unwrap_or_default();
        let (name, length) = (phase.name(), profile.took.as_millis());
        text += &format!("  {name}: {count} in {length} ms, mean {:.1} us\n", mean.as_secs_f64() * 1e6);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn profile() -> Profile {
        let started = Instant::now();
        let span = |phase, offset: u64, thread| Span {
            phase,
            started: started + Duration::from_micros(offset),
            took: Duration::from_micros(2),
            thread,
        };
        Profile {
            started: (started, SystemTime::UNIX_EPOCH + Duration::from_secs(5)),
            took: Duration::from_millis(3),
            spans: vec![span(Phase::Run, 7, 1), span(Phase::Encode, 1, 2), span(Phase::Decode, 4, 1)],
            threads: [(1, "io".to_owned()), (2, "run".to_owned()), (3, "idle".to_owned())].into(),
        }
    }

    #[test]
    fn threads_are_lines_and_phases_are_events_in_order() {
        let space = space(&profile(), usize::MAX, "h");
        let [plane] = &space.planes[..] else { panic!("one plane") };
        assert_eq!(plane.name, "/host:CPU");
        let lines: Vec<_> = plane.lines.iter().map(|line| (line.name.as_str(), line.events.len())).collect();
        assert_eq!(lines, [("io", 2), ("run", 1)]);
        let first = &plane.lines[0].events[0];
        assert_eq!(plane.event_metadata[&first.metadata_id].name, "servable::decode");
        assert_eq!(first.data, Some(x_event::Data::OffsetPs(4_000_000)));
        assert_eq!((first.duration_ps, plane.lines[0].timestamp_ns), (2_000_000, 5_000_000_000));
    }

    #[test]
    fn a_client_cannot_choose_where_on_the_server_a_file_goes() {
        let root = std::env::temp_dir();
        let request = |session_id: &str, host_name: &str| ProfileRequest {
            repository_root: root.to_string_lossy().into_owned(),
            session_id: session_id.to_owned(),
            host_name: host_name.to_owned(),
            ..Default::default()
        };
        let plugin = ProfileRequest {
            repository_root: root.join("plugins/profile/").to_string_lossy().into_owned(),
            ..request("2026_01_01", "host:8500")
        };
        for request in [plugin, request("2026_01_01", "host:8500")] {
            let path = stored_at(&request, Some(&root)).unwrap().unwrap();
            assert_eq!(path, root.join("plugins/profile/2026_01_01/host_8500.xplane.pb"));
        }
        for (session, host) in
            [("..", "h"), ("a/b", "h"), ("/etc", "h"), ("", "h"), ("a/", "h"), ("s", "../h"), ("s", "a/h")]
        {
            let refused = stored_at(&request(session, host), Some(&root)).unwrap_err();
            assert_eq!(refused.kind, Kind::InvalidArgument, "{session} {host}");
        }
        let nowhere = ProfileRequest { repository_root: "/no/such/folder".to_owned(), ..request("s", "h") };
        assert_eq!(stored_at(&nowhere, Some(Path::new("/"))).unwrap_err().kind, Kind::NotFound);
        for within in [None, Some(Path::new("/usr")), Some(Path::new("/no/such/folder"))] {
            let refused = stored_at(&request("s", "h"), within).unwrap_err();
            assert_eq!(refused.kind, Kind::PermissionDenied, "{within:?}");
        }
    }

    #[test]
    fn the_summary_counts() {
        let text = summary(&profile(), &MonitorRequest { monitoring_level: 2, ..Default::default() });
        assert!(text.contains("run: 1 in 3 ms, mean 2.0 us"), "{text}");
        assert!(text.contains("queue: 0 in 3 ms, mean 0.0 us"), "{text}");
    }
}

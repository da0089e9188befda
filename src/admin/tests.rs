//! The administration over real sockets: who answers which request, and what no client can block.

use super::*;
use crate::config;
use crate::console::Console;
use crate::console::files::Files;
use crate::control_plane::{Answer, ControlPlane, Refused};
use crate::methods::ServerState;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

const PATIENCE: Duration = Duration::from_secs(30);

fn options() -> Options {
    Options {
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        name: "127.0.0.1".to_owned(),
        token: String::new(),
        auth: None,
        metrics_path: None,
        tls: None,
        request_within: PATIENCE,
        max_connections: 4,
        counts: Arc::default(),
    }
}

/// An administration whose handler echoes the request; it answers DELETE once released by `let_go`.
struct Running {
    administration: Administration,
    ready: Arc<AtomicBool>,
    begun: Receiver<()>,
    let_go: Sender<()>,
}

fn running(options: &Options) -> Running {
    running_with(options, None)
}

fn running_with(options: &Options, console: Option<Arc<RestService>>) -> Running {
    let ready = Arc::new(AtomicBool::new(false));
    let (begins, begun) = channel();
    let (let_go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let handler: Handler = Arc::new(move |question: &Question| {
        if question.method == "DELETE" {
            begins.send(()).unwrap();
            may_go.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap();
        }
        match question.path.as_str() {
            "/panic" => panic!("as it was told"),
            "/missing" => Err(Refused::new(Kind::NotFound, "missing").hint("look")),
            path => {
                let text = format!("{} {path} {} {}", question.method, question.query, question.body.len());
                Ok(Answer { content_type: "text/plain".to_owned(), bytes: text.into_bytes() })
            }
        }
    });
    let server = Arc::new(ServerState::for_tests(config::Options::closed()));
    let health = HealthPages::new(server, ready.clone());
    let behind = Behind { health, handler, desk: ControlPlane::new().unwrap().desk(2), console };
    Running { administration: serve(options, behind).unwrap(), ready, begun, let_go }
}

/// The console and the API by which it calls models, as they are at an administration's address.
fn console() -> Arc<RestService> {
    let server = Arc::new(ServerState::for_tests(config::Options::closed()));
    let page = ("index.html".to_owned(), "text/html".to_owned(), b"<!doctype html>".to_vec());
    let nothing: Handler = Arc::new(|_: &Question| Err(Refused::new(Kind::NotFound, "not on this way")));
    let console = Console::new(Files::new(vec![page]), nothing, ControlPlane::new().unwrap().desk(1));
    Arc::new(RestService::new(server, None, None, None).with_console(Arc::new(console)))
}

impl Running {
    fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.administration.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Sends a request without a body and returns the whole reply; the connection ends with it.
    fn ask(&self, line: &str) -> String {
        read(self.connect(&format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")))
    }
}

fn read(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _reset = stream.read_to_end(&mut all);
    String::from_utf8(all).unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn health_is_answered_to_everyone_and_by_get_and_head_alone() {
    let running = running(&options());
    for (line, status, text) in [
        ("GET /livez", 200, "{\n  \"live\": true\n}\n"),
        ("GET //livez?verbose", 200, "{\n  \"live\": true\n}\n"),
        ("GET /healthz", 200, "{\n  \"live\": true\n}\n"),
        ("GET /readyz/m", 404, "{\n  \"ready\": false\n}\n"),
        ("HEAD /livez", 200, ""),
        ("GET /readyz", 503, "{\n  \"ready\": false\n}\n"),
        ("POST /livez", 200, "POST /livez  0"),
    ] {
        let answer = running.ask(line);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert_eq!(body(&answer), text, "{line}");
    }
    running.ready.store(true, Relaxed);
    let asked_abroad = running
        .connect("GET /readyz HTTP/1.1\r\nHost: evil.example\r\nOrigin: null\r\nConnection: close\r\n\r\n");
    assert_eq!(body(&read(asked_abroad)), "{\n  \"ready\": true\n}\n");
}

#[test]
fn the_handler_is_asked_for_everything_else() {
    let running = running(&options());
    for (line, status, text) in [
        ("GET /a%20b?c=d", 200, "GET /a%20b c=d 0"),
        ("HEAD /a", 200, ""),
        (
            "GET /missing",
            404,
            "{\n  \"error\": \"missing\",\n  \"code\": \"NOT_FOUND\",\n  \"hint\": \"look\"\n}\n",
        ),
        (
            "GET /panic",
            500,
            "{\n  \"error\": \"The server failed on this request; its log has the reason\",\n  \"code\": \"INTERNAL\"\n}\n",
        ),
        (
            "TRACE /",
            405,
            "{\n  \"error\": \"Unsupported method ('TRACE')\",\n  \"code\": \"UNIMPLEMENTED\"\n}\n",
        ),
        (
            "BREW /",
            501,
            "{\n  \"error\": \"Unsupported method ('BREW')\",\n  \"code\": \"UNIMPLEMENTED\"\n}\n",
        ),
    ] {
        let answer = running.ask(line);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert_eq!(body(&answer), text, "{line}");
    }
    let length_of_head = running.ask("HEAD /a");
    assert!(length_of_head.contains("Content-Length: 9\r\n"), "{length_of_head}");
}

#[test]
fn a_body_comes_whole_or_not_at_all() {
    let running = running(&options());
    let put = "PUT /a HTTP/1.1\r\nConnection: close\r\n";
    let whole = running.connect(&format!("{put}Content-Length: 3\r\n\r\nabc"));
    assert_eq!(body(&read(whole)), "PUT /a  3");
    let chunked = read(running.connect(&format!("{put}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")));
    assert!(chunked.starts_with("HTTP/1.1 400 ") && chunked.contains("needs a Content-Length"), "{chunked}");
    let large = read(running.connect(&format!("{put}Content-Length: 1048577\r\n\r\n")));
    assert!(large.starts_with("HTTP/1.1 400 ") && large.contains("more than 1048576"), "{large}");
    let cut = running.connect("DELETE /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(!read(cut).starts_with("HTTP/1.1 200 "));
    assert!(running.begun.try_recv().is_err());
}

#[test]
fn as_many_are_answered_as_may_be_and_health_is_not_counted() {
    let running = running(&options());
    let asking = [0, 1].map(|_| running.connect("DELETE /a HTTP/1.1\r\nConnection: close\r\n\r\n"));
    for _ in &asking {
        running.begun.recv_timeout(PATIENCE).unwrap();
    }
    let refused = running.ask("GET /a");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(body(&refused).contains("2 administrative requests are being answered"), "{refused}");
    let _silent = [0; 5].map(|_| running.connect(""));
    assert!(running.ask("GET /livez").starts_with("HTTP/1.1 200 "));
    for _ in &asking {
        running.let_go.send(()).unwrap();
    }
    assert_eq!(asking.map(|one| body(&read(one)).to_owned()), ["DELETE /a  0", "DELETE /a  0"]);
    assert!(running.ask("GET /a").starts_with("HTTP/1.1 200 "));
}

#[test]
fn it_closes_at_once_and_says_whether_someone_is_being_answered() {
    let idle = running(&options());
    let silent = idle.connect("");
    assert!(idle.administration.close());
    assert_eq!(read(silent), "");
    let address = idle.administration.address();
    assert!(TcpStream::connect(address).is_err());

    let busy = running(&options());
    let asking = busy.connect("DELETE /a HTTP/1.1\r\n\r\n");
    busy.begun.recv_timeout(PATIENCE).unwrap();
    assert!(!busy.administration.close());
    busy.let_go.send(()).unwrap();
    let answer = read(asking);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close\r\n"), "{answer}");
}

#[test]
fn a_request_has_to_be_whole_in_time() {
    let running = running(&Options { request_within: Duration::from_millis(100), ..options() });
    for content in ["", "GET /livez HTTP/1.1\r\nX: ", "PUT /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nab"] {
        assert_eq!(read(running.connect(content)), "");
    }
}

#[test]
fn without_a_console_its_paths_are_the_handler_s() {
    let running = running(&options());
    for path in ["/", "/console/x", "/v1/models/m", "/console/api/server"] {
        let answer = running.ask(&format!("GET {path}"));
        assert_eq!(body(&answer), format!("GET {path}  0"));
        assert!(!answer.to_lowercase().contains("content-security-policy"), "{answer}");
    }
}

#[test]
fn the_console_s_files_are_open_and_models_are_called_with_the_administration_s_rights() {
    let with_token = Options { token: "secret".to_owned(), ..options() };
    let running = running_with(&with_token, Some(console()));
    let page = running.ask("GET /");
    assert!(page.starts_with("HTTP/1.1 200 ") && body(&page) == "<!doctype html>", "{page}");
    let shown = "Authorization: Bearer secret\r\nHost: localhost\r\nConnection: close";
    for (line, more, status, text) in [
        ("GET /console/x", "", 404, "The console is at /"),
        ("GET /console/api/server", "", 401, "bearer token"),
        ("POST /", "", 401, "bearer token"),
        ("GET /v1/models/m", "", 401, "bearer token"),
        ("POST /v1/models/m:predict", "Content-Length: 2\r\n\r\n{}", 401, "bearer token"),
        ("GET /v1/models/m", shown, 404, "Could not find any versions of model m"),
        ("GET /console/api/server", shown, 200, "GET /console/api/server  0"),
        ("POST /", shown, 200, "POST /  0"),
    ] {
        let more = if more.is_empty() { "Host: localhost\r\nConnection: close" } else { more };
        let answer = read(running.connect(&format!("{line} HTTP/1.1\r\n{more}\r\n\r\n")));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(text),
            "{line}: {answer}"
        );
        assert!(
            answer.to_lowercase().contains("content-security-policy: default-src 'none';"),
            "{line}: {answer}"
        );
    }
}

#[test]
fn pages_served_here_may_ask_and_others_may_not() {
    let running = running_with(&options(), Some(console()));
    let ask = |line: &str, origin: &str, host: &str| {
        let request =
            format!("{line} HTTP/1.1\r\nOrigin: {origin}\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        read(running.connect(&request))
    };
    let own = running.administration.address().to_string();
    assert_eq!(body(&ask("PUT /a", &format!("http://{own}"), &own)), "PUT /a  0");
    assert!(ask("GET /v1/models/m", &format!("http://{own}"), &own).contains("Could not find any versions"));
    for line in ["PUT /a", "GET /v1/models/m"] {
        for (origin, host) in
            [("http://evil.example", &*own), ("null", &own), ("http://evil.example", "evil.example")]
        {
            assert!(ask(line, origin, host).starts_with("HTTP/1.1 403 "), "{line} {origin} {host}");
        }
    }
}

//! Loads on servers that behave, and on those that do not, over real sockets.

use super::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BAD: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";

/// What a server does with its n-th request of a connection.
type Behaviour = fn(usize, &mut TcpStream);

/// Serves on a port of its own, as long as the tests run.
fn server(behaviour: Behaviour) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, behaviour));
        }
    });
    address
}

fn serve(mut stream: TcpStream, behaviour: Behaviour) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for number in 0.. {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(said) = line.strip_prefix("Content-Length: ") {
                length = said.trim().parse().unwrap();
            }
        }
        if reader.read_exact(&mut vec![0; length]).is_err() {
            return;
        }
        behaviour(number, &mut stream);
    }
}

fn say(stream: &mut TcpStream, text: &str) {
    // A client that has left is no matter.
    let _left = stream.write_all(text.as_bytes());
}

fn target(address: SocketAddr, wire: Wire) -> Target {
    Target { wire, host: "127.0.0.1".to_owned(), port: address.port(), trust: None }
}

fn post() -> Wanted {
    Wanted { path: "/v1/models/m:predict".to_owned(), headers: Vec::new(), body: Some(b"{}".to_vec()) }
}

fn plan(address: SocketAddr, load: Load) -> Plan {
    Plan {
        target: target(address, Wire::Http1),
        groups: vec![Group { weight: 1.0, requests: vec![post()] }],
        load,
        threads: 1,
        connections: 1,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(60),
        count: Some(40),
        timeout: Duration::from_secs(30),
        seed: 1,
    }
}

fn closed(concurrency: usize) -> Load {
    Load::Closed { concurrency }
}

fn outcome(plan: Plan) -> Outcome {
    let run = Run::start(plan).unwrap();
    assert!(run.wait(Duration::from_secs(60)));
    run.outcome().unwrap()
}

fn kinds(outcome: &Outcome) -> Vec<(Failure, u64)> {
    outcome.tally.groups.iter().flat_map(|seen| &seen.failures).map(|(first, n)| (first.kind, *n)).collect()
}

#[test]
fn a_closed_loop_asks_as_often_as_it_is_told() {
    let address = server(|_, stream| say(stream, GOOD));
    for (threads, callers) in [(1, 1), (1, 8), (2, 3)] {
        let found = outcome(Plan { threads, ..plan(address, closed(callers)) });
        let seen = &found.tally.groups[0];
        assert_eq!((seen.times.count(), seen.failed()), (40, 0), "{:?}", seen.failures);
        assert_eq!(seen.received, 40 * GOOD.len() as u64);
        assert!(found.tally.opened as usize <= callers && found.seconds > 0.0 && found.seconds < 60.0);
        assert!(found.tally.lag.count() == 0 && !found.tally.cpu.is_zero());
    }
}

#[test]
fn an_open_loop_sends_at_its_times() {
    let address = server(|_, stream| say(stream, GOOD));
    let load = Load::Open { rate: 1000.0, spacing: Spacing::Fixed, most: 100 };
    let begun = Instant::now();
    let found = outcome(plan(address, load));
    // The last of 40 arrives after 39 ms.
    assert!(begun.elapsed() >= Duration::from_millis(39));
    assert_eq!((found.tally.groups[0].times.count(), found.tally.lag.count()), (40, 40));
}

#[test]
fn a_server_that_stands_still_is_charged_for_all_that_should_have_come() {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    const STANDS: Duration = Duration::from_millis(200);
    let address = server(|_, stream| {
        thread::sleep(STANDS.saturating_sub(FIRST.get_or_init(Instant::now).elapsed()));
        say(stream, GOOD);
    });
    let load = Load::Open { rate: 1000.0, spacing: Spacing::Fixed, most: 1000 };
    let found = outcome(plan(address, load));
    let times = &found.tally.groups[0].times;
    // The n-th of 40 has waited for n milliseconds less than the first: none is left out.
    assert_eq!(times.count(), 40);
    let (shortest, longest) = (times.quantile(0.0), times.max());
    assert!(shortest >= 150_000_000 && longest >= 195_000_000, "{shortest} {longest}");
    let few = Load::Open { rate: 1000.0, spacing: Spacing::Fixed, most: 2 };
    let slow = server(|_, stream| {
        thread::sleep(STANDS);
        say(stream, GOOD);
    });
    let found = outcome(plan(slow, few));
    let [(Failure::Unsent, unsent)] = kinds(&found)[..] else { panic!("{:?}", kinds(&found)) };
    assert_eq!(unsent + found.tally.groups[0].times.count(), 40);
}

#[test]
fn failures_are_counted_by_kind() {
    let every_other = server(|number, stream| say(stream, if number % 2 == 0 { GOOD } else { BAD }));
    let found = outcome(plan(every_other, closed(1)));
    assert_eq!(kinds(&found), [(Failure::Status(503), 20)]);
    assert_eq!(found.tally.groups[0].failures[0].0.text, "busy");
    let closes = server(|_, stream| stream.shutdown(std::net::Shutdown::Both).unwrap());
    assert_eq!(kinds(&outcome(plan(closes, closed(2)))), [(Failure::Lost, 40)]);
    let cuts = server(|_, stream| {
        say(stream, &GOOD[..GOOD.len() - 1]);
        let _closed = stream.shutdown(std::net::Shutdown::Both);
    });
    assert_eq!(kinds(&outcome(plan(cuts, closed(2)))), [(Failure::Lost, 40)]);
    let speaks_otherwise = server(|_, stream| say(stream, "220 mail.example ESMTP\r\n\r\n"));
    assert_eq!(kinds(&outcome(plan(speaks_otherwise, closed(2)))), [(Failure::Malformed, 40)]);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = outcome(Plan { count: Some(3), ..plan(gone, closed(1)) });
    assert_eq!(kinds(&found), [(Failure::Connect, 3)]);
}

#[test]
fn who_does_not_answer_is_given_up() {
    let silent = server(|_, _| ());
    for load in [closed(4), Load::Open { rate: 1e4, spacing: Spacing::Poisson, most: 100 }] {
        let timeout = Duration::from_millis(50);
        let found = outcome(Plan { timeout, count: Some(8), ..plan(silent, load) });
        assert_eq!(kinds(&found), [(Failure::Timeout, 8)]);
    }
}

#[test]
fn a_connection_that_ends_with_its_answer_is_opened_again() {
    let address = server(|_, stream| {
        say(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
        let _closed = stream.shutdown(std::net::Shutdown::Both);
    });
    let found = outcome(plan(address, closed(1)));
    assert_eq!((found.tally.groups[0].times.count(), found.tally.opened), (40, 40));
}

#[test]
fn a_warm_up_is_not_counted_and_a_stop_is_at_once() {
    let address = server(|_, stream| say(stream, GOOD));
    let run =
        Run::start(Plan { warm_up: Duration::from_secs(3600), count: None, ..plan(address, closed(2)) })
            .unwrap();
    assert!(!run.wait_measuring(Duration::from_millis(20)));
    run.stop();
    assert!(run.wait(Duration::from_secs(60)));
    let found = run.outcome().unwrap();
    assert_eq!((found.tally.groups[0].times.count(), found.tally.groups[0].failed()), (0, 0));
    assert!(run.outcome().is_err());
}

#[test]
fn what_cannot_be_done_is_refused() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let good = || plan(address, closed(1));
    for wrong in [
        plan(address, closed(0)),
        Plan { threads: 0, ..good() },
        Plan { connections: 1 << 20, ..good() },
        Plan { timeout: Duration::ZERO, ..good() },
        Plan { duration: Duration::MAX, ..good() },
        Plan { groups: Vec::new(), ..good() },
        plan(address, Load::Open { rate: 0.0, spacing: Spacing::Fixed, most: 1 }),
        plan(address, Load::Open { rate: 2e7, spacing: Spacing::Fixed, most: 1 }),
        plan(address, Load::Open { rate: f64::INFINITY, spacing: Spacing::Fixed, most: 1 }),
    ] {
        assert!(Run::start(wrong).is_err());
    }
}

/// Serves gRPC: one call after the other is answered with `message` and `code`.
fn grpc_server(code: &'static str, message: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer_calls(stream, code, message));
            }
        });
    });
    address
}

async fn answer_calls(stream: tokio::net::TcpStream, code: &'static str, message: &'static [u8]) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut reply))) = connection.accept().await {
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data.unwrap().len()).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(code));
            let mut head = Response::new(());
            if message.is_empty() {
                *head.headers_mut() = trailers;
                let _sent = reply.send_response(head, true);
                return;
            }
            let mut stream = reply.send_response(head, false).unwrap();
            let mut framed = vec![0, 0, 0, 0, message.len() as u8];
            framed.extend_from_slice(message);
            let _sent = stream.send_data(Bytes::from(framed), false);
            let _sent = stream.send_trailers(trailers);
        });
    }
}

fn calls(address: SocketAddr, load: Load) -> Plan {
    Plan { target: target(address, Wire::Grpc), connections: 2, ..plan(address, load) }
}

#[test]
fn calls_of_grpc_share_connections() {
    let address = grpc_server("0", b"answer");
    for load in [closed(8), Load::Open { rate: 5000.0, spacing: Spacing::Poisson, most: 100 }] {
        let found = outcome(calls(address, load));
        let seen = &found.tally.groups[0];
        assert_eq!(
            (seen.times.count(), seen.failed(), found.tally.opened),
            (40, 0, 2),
            "{:?}",
            seen.failures
        );
        assert_eq!(seen.received, 40 * 11);
    }
}

#[test]
fn calls_that_fail_are_counted_by_code() {
    let refused = grpc_server("14", b"");
    assert_eq!(kinds(&outcome(calls(refused, closed(3)))), [(Failure::Code(14), 40)]);
    let late = grpc_server("13", b"too late");
    assert_eq!(kinds(&outcome(calls(late, closed(3)))), [(Failure::Code(13), 40)]);
    let http1 = server(|_, stream| say(stream, GOOD));
    let found = outcome(Plan { count: Some(2), ..calls(http1, closed(1)) });
    let kinds: Vec<_> = kinds(&found).iter().map(|(kind, _)| *kind).collect();
    assert!(kinds == [Failure::Connect] || kinds == [Failure::Lost], "{kinds:?}");
}

#[test]
fn one_request_can_be_asked_alone() {
    let second = Duration::from_secs(30);
    let address = server(|_, stream| say(stream, GOOD));
    assert_eq!(ask(&target(address, Wire::Http1), &post(), second).unwrap(), b"ok");
    let address = grpc_server("0", b"answer");
    assert_eq!(ask(&target(address, Wire::Grpc), &post(), second).unwrap(), b"answer");
    let address = server(|_, stream| say(stream, BAD));
    let refused = ask(&target(address, Wire::Http1), &post(), second).unwrap_err();
    assert_eq!(refused, Failed { kind: Failure::Status(503), text: "busy".to_owned() });
}

#[test]
fn what_cannot_be_sent_is_counted_as_such() {
    let silent = server(|_, _| ());
    let load = Load::Open { rate: 1e5, spacing: Spacing::Fixed, most: 50 };
    let timeout = Duration::from_millis(100);
    let found = outcome(Plan { timeout, count: Some(200), ..plan(silent, load) });
    let total: u64 = kinds(&found).iter().map(|(_, count)| count).sum();
    assert_eq!(total, 200);
    assert!(kinds(&found).iter().any(|(kind, _)| *kind == Failure::Unsent));
}

#[test]
fn a_load_generator_that_cannot_keep_up_ends_with_its_time() {
    let silent = server(|_, _| ());
    let load = Load::Open { rate: 1e7, spacing: Spacing::Fixed, most: 5 };
    let (duration, timeout) = (Duration::from_millis(200), Duration::from_millis(100));
    let run = |plan: Plan| {
        let found = outcome(plan);
        kinds(&found).iter().map(|(_, count)| count).sum::<u64>()
    };
    // Two million requests are due: more than can be looked at one by one in that time.
    let all = run(Plan { duration, timeout, count: None, ..plan(silent, load) });
    assert!(all.abs_diff(2_000_000) <= 2, "{all}");
    let few = Plan { duration, timeout, count: Some(300_000), ..plan(silent, load) };
    assert_eq!(run(few), 300_000);
}

#[test]
fn an_open_loop_lasts_until_its_time_is_over_and_all_is_answered() {
    let duration = Duration::from_millis(100);
    let of = |address, rate| {
        let load = Load::Open { rate, spacing: Spacing::Fixed, most: 100 };
        outcome(Plan { duration, count: None, ..plan(address, load) })
    };
    let found = of(server(|_, stream| say(stream, GOOD)), 1.0);
    assert_eq!(found.tally.groups[0].times.count(), 1);
    assert!(found.seconds >= 0.1, "{}", found.seconds);
    let slow = server(|_, stream| {
        thread::sleep(Duration::from_millis(300));
        say(stream, GOOD);
    });
    let found = of(slow, 20.0);
    assert_eq!(found.tally.groups[0].times.count(), 2);
    // The second was due after 50 ms.
    assert!(found.seconds >= 0.35, "{}", found.seconds);
}

#[test]
fn no_more_threads_are_used_than_have_something_to_do() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let used = |connections, load| {
        let http = Plan { threads: 8, connections, ..plan(address, load) };
        let grpc = Plan { target: target(address, Wire::Grpc), ..http.clone() };
        (http.used_threads(), grpc.used_threads())
    };
    assert_eq!(used(2, closed(3)), (3, 2));
    assert_eq!(used(20, Load::Open { rate: 1.0, spacing: Spacing::Fixed, most: 5 }), (5, 5));
}

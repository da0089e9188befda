//! Whole servers, on ports of their own.

use super::*;
use bytes::Bytes;
use std::io::Write;
use std::net;
use std::sync::mpsc;
use std::thread;

/// Longest time for what happens at once.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_load_whose_client_has_left_does_not_keep_the_server_from_stopping() {
    let address = Some("127.0.0.1:0".parse().unwrap());
    let options = Options { rest_address: address, open_inference: true, backlog: 16, ..Options::closed() };
    let server = Server::new(options).unwrap();
    let (begin, begun) = mpsc::channel();
    let (leave, left) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    server.allow_model_control(Arc::new(move |_, _, asker| {
        begin.send(()).unwrap();
        while !asker.has_left() {
            thread::sleep(Duration::from_millis(1));
        }
        leave.send(()).unwrap();
        let _nobody_sends = ended.lock().unwrap().recv();
        Ok(())
    }));
    let rest = server.start(grpc::Settings::default()).unwrap().rest.unwrap();
    let mut client = net::TcpStream::connect(rest).unwrap();
    client
        .write_all(b"POST /v2/repository/models/m/load HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    begun.recv_timeout(SOON).unwrap();
    drop(client);
    left.recv_timeout(SOON).unwrap();
    let (tell, told) = mpsc::channel();
    let stopping = thread::spawn(move || tell.send(server.stop(SOON)).unwrap());
    assert!(!told.recv_timeout(2 * SOON).unwrap(), "the load goes on");
    stopping.join().unwrap();
    drop(end);
}

#[test]
fn the_process_itself_asks_without_a_port_and_is_waited_for() {
    let server = Server::new(Options { backlog: 16, ..Options::closed() }).unwrap();
    let status = || rest::in_process::Asked {
        method: "GET",
        target: b"/v1/models/m?x=1",
        headers: vec![(&b"Connection"[..], &b"keep-alive"[..])],
        body: Bytes::new(),
    };
    let head = || rest::in_process::Asked { method: "HEAD", ..status() };
    let call =
        |path| grpc::in_process::Asked { path, metadata: Vec::new(), message: Bytes::new(), timeout: None };
    assert_eq!(server.ask_rest(status()).err().unwrap().kind, Kind::Unavailable);
    server.start(grpc::Settings::default()).unwrap();
    let threads = server.own_threads().unwrap().clone();

    let (answer, _) = threads.block_on(server.ask_rest(status()).unwrap());
    let headers: Vec<_> = answer.headers().map(|(name, _)| name.to_vec()).collect();
    assert_eq!((answer.status(), headers.len()), (404, 2), "{headers:?}");
    assert!(answer.body().starts_with(b"{\n    \"error\": \"Could not find"), "{:?}", answer.body());
    let (answer, _) = threads.block_on(server.ask_rest(head()).unwrap());
    assert!(answer.status() == 405 || answer.status() == 404);
    assert!(answer.body().is_empty());

    let status_of = "/tensorflow.serving.ModelService/GetModelStatus";
    let (answer, _) = threads.block_on(server.ask_grpc(call(status_of)).unwrap());
    assert_eq!((answer.code, answer.message.len()), (3, 0), "{}", answer.details);
    let (answer, _) = threads.block_on(server.ask_grpc(call("/grpc.health.v1.Health/Check")).unwrap());
    // A standard service streams its answer: status SERVING, as no model is waited for.
    assert_eq!((answer.code, answer.message.iter().map(Bytes::len).sum::<usize>()), (0, 2));
    let (answer, held) = threads.block_on(server.ask_grpc(call("/grpc.health.v1.Health/Watch")).unwrap());
    assert_eq!(answer.code, 12, "{}", answer.details);

    assert!(!server.stop(Duration::from_millis(50)), "a request is in flight");
    drop(held);
    assert!(server.ask_grpc(call("/a.B/C")).is_err());
}

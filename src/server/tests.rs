//! Whole servers, on ports of their own.

use super::*;
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

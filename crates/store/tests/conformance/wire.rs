//! A wire to the server that can be cut when a commit goes over it.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Passes on what goes either way, without TLS. Ends with the test program.
pub(crate) struct Wire {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// At the next commit: whether the server still hears of it.
    cut: Option<bool>,
    /// Whether nobody gets through any more once it was cut.
    stays_cut: bool,
    is_cut: bool,
}

impl Wire {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let wire = Self { port: listener.local_addr().unwrap().port(), state: Arc::clone(&state) };
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                if state.lock().unwrap().is_cut {
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(back.0, back.1));
                let state = Arc::clone(&state);
                thread::spawn(move || watch(client, server, &state));
            }
        });
        wire
    }

    /// Cuts the wire when the next commit comes, `heard` by the server or not.
    pub(crate) fn cut_at_commit(&self, heard: bool) {
        self.state.lock().unwrap().cut = Some(heard);
    }

    pub(crate) fn stay_cut(&self, stays_cut: bool) {
        let mut state = self.state.lock().unwrap();
        (state.stays_cut, state.is_cut) = (stays_cut, false);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes on the client's messages, one by one: kind, length, body.
fn watch(mut client: TcpStream, mut server: TcpStream, state: &Mutex<State>) {
    let mut commits = HashSet::new();
    // The first message has no kind.
    let mut kind = Vec::new();
    loop {
        let mut length = [0; 4];
        if client.read_exact(&mut length).is_err() {
            break;
        }
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        if client.read_exact(&mut body).is_err() {
            break;
        }
        let mut texts = body.split(|byte| *byte == 0);
        let first = texts.next().unwrap_or_default().to_vec();
        let second = texts.next().unwrap_or_default();
        // A statement is parsed under a name, and bound by a name that follows that of the portal.
        if kind == b"P" && second == b"COMMIT" {
            commits.insert(first);
        } else if kind == b"B" && commits.contains(second) {
            let mut state = state.lock().unwrap();
            if let Some(heard) = state.cut.take() {
                state.is_cut = state.stays_cut;
                drop(state);
                if heard {
                    let mut rest = [kind.clone(), length.to_vec(), body].concat();
                    // Bind, execute, sync: the client sends them together.
                    let mut more = [0; 4_096];
                    client.set_nonblocking(true).unwrap();
                    if let Ok(read) = client.read(&mut more) {
                        rest.extend(&more[..read]);
                    }
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = server.write_all(&rest);
                    thread::sleep(std::time::Duration::from_millis(300));
                } else {
                    let _ = client.shutdown(Shutdown::Both);
                }
                break;
            }
        }
        if server.write_all(&[kind.clone(), length.to_vec(), body].concat()).is_err() {
            break;
        }
        kind = vec![0];
        if client.read_exact(&mut kind).is_err() {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

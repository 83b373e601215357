//! An HTTP server that breaks on purpose.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// How one request is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// So many bytes, then the connection breaks.
    CutAfter(usize),
    /// So many bytes, then silence with the connection open.
    StallAfter(usize),
    Status(u16),
}

/// Serves one content under every name, until the test ends.
pub(crate) struct Site {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    content: Arc<Vec<u8>>,
    version: usize,
    digest: Option<String>,
    answers: VecDeque<Answer>,
    requests: usize,
    replacement: Option<(usize, Vec<u8>)>,
}

impl Site {
    pub(crate) fn serve(content: Vec<u8>) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("address");
        let state = Arc::new(Mutex::new(State {
            content: Arc::new(content),
            ..State::default()
        }));
        let of_server = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&of_server);
                thread::spawn(move || answer(stream, &state));
            }
        });
        Site { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("state")
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// How the next requests are answered; those after them are answered well.
    pub(crate) fn answers(&self, answers: &[Answer]) {
        self.state().answers = answers.iter().copied().collect();
    }

    /// Has another content after so many requests.
    pub(crate) fn replace_after(&self, requests: usize, content: Vec<u8>) {
        self.state().replacement = Some((requests, content));
    }

    /// What `NAME.sha256` has.
    pub(crate) fn digest(&self, digest: &str) {
        self.state().digest = Some(digest.to_owned());
    }

    /// How often the content was asked for.
    pub(crate) fn requests(&self) -> usize {
        self.state().requests
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let lines = BufReader::new(stream.try_clone().expect("stream")).lines();
    let head: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .map(|line| line.to_ascii_lowercase())
        .collect();
    let field = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
    let Some(first) = head.first() else { return };
    let mut state = state.lock().expect("state");
    if first.contains(".sha256 ") {
        let body = state.digest.clone();
        let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
        let body = body.unwrap_or_default();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        return;
    }
    state.requests += 1;
    let requests = state.requests;
    let is_due = |(after, _): &mut (usize, Vec<u8>)| requests > *after;
    if let Some((_, content)) = state.replacement.take_if(is_due) {
        state.content = Arc::new(content);
        state.version += 1;
    }
    let answer = state.answers.pop_front();
    if let Some(Answer::Status(status)) = answer {
        let _ = write!(
            stream,
            "HTTP/1.1 {status} Not here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return;
    }
    let tag = format!("\"{}\"", state.version);
    let content = Arc::clone(&state.content);
    drop(state);
    let same = field("if-range: ").is_none_or(|given| given == tag);
    let range = field("range: bytes=").filter(|_| same);
    let start: usize = range.map_or(0, |range| range.trim_end_matches('-').parse().expect("a range"));
    let total = content.len();
    let (status, more) = match range {
        Some(_) => (
            "206 Partial Content",
            format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1),
        ),
        None => ("200 OK", String::new()),
    };
    let body = &content[start..];
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: {tag}\r\n{more}Connection: close\r\n\r\n",
        body.len()
    );
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    match answer {
        Some(Answer::CutAfter(len)) => {
            let _ = stream.write_all(&body[..len.min(body.len())]);
        }
        Some(Answer::StallAfter(len)) => {
            let _ = stream.write_all(&body[..len.min(body.len())]);
            // Nothing comes any more until the other end has gone.
            let _ = stream.read(&mut [0]);
        }
        _ => {
            let _ = stream.write_all(body);
        }
    }
}

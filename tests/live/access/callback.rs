//! An operator's server that decides about publishers as a test tells it to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// What it answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Yes,
    No(&'static str),
    /// Nothing, with the connection open.
    Hang,
}

pub struct Callback {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    last: Arc<Mutex<Value>>,
    stopped: Arc<AtomicBool>,
}

impl Callback {
    #[track_caller]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (answer, last) = (Arc::new(Mutex::new(Answer::Yes)), Arc::new(Mutex::new(Value::Null)));
        let stopped = Arc::new(AtomicBool::new(false));
        let (answering, hearing, stopping) = (Arc::clone(&answer), Arc::clone(&last), Arc::clone(&stopped));
        thread::spawn(move || {
            let mut hanging = Vec::new();
            for stream in listener.incoming() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let Some(question) = read(&mut stream) else { continue };
                *hearing.lock().expect("no other panics") = question;
                let answer = *answering.lock().expect("no other panics");
                let _ = match answer {
                    Answer::Yes => {
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    }
                    Answer::No(words) => {
                        let length = words.len();
                        write!(
                            stream,
                            "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{words}"
                        )
                    }
                    Answer::Hang => {
                        hanging.push(stream);
                        Ok(())
                    }
                };
            }
        });
        Self { address, answer, last, stopped }
    }

    pub fn url(&self) -> String {
        format!("http://{}/publish", self.address)
    }

    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("no other panics") = answer;
    }

    /// The last question.
    pub fn last(&self) -> Value {
        self.last.lock().expect("no other panics").clone()
    }

    /// Listens no more.
    pub fn stop(self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Whoever accepts looks at it after the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn read(stream: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(question) = serde_json::from_str(body)
        {
            return Some(question);
        }
    }
}

//! Child processes that end with the test and whose words are shown when it fails.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::wait_for;

/// More lines than this are dropped from the middle of a child's log, so that a chatty one cannot fill the memory.
const LOG_LINES: usize = 4000;

/// A running program. Dropping it kills it; if the test is failing at that moment, its log is printed.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    quiet: bool,
}

impl Process {
    /// Starts `command` with standard error (and standard output, unless the caller piped it elsewhere) kept as its log.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command) -> Self {
        Self::start_with(name, command.stdin(Stdio::null()).stdout(Stdio::piped())).0.reading_stdout()
    }

    /// As [`Process::start`], with standard input and output left to the caller.
    #[track_caller]
    pub fn talk(name: &str, command: &mut Command) -> (Self, ChildStdin, ChildStdout) {
        let (mut process, ()) = Self::start_with(name, command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = process.child.stdin.take().expect("standard input is piped");
        let stdout = process.child.stdout.take().expect("standard output is piped");
        (process, stdin, stdout)
    }

    #[track_caller]
    fn start_with(name: &str, command: &mut Command) -> (Self, ()) {
        let program = command.get_program().to_owned();
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap_or_else(|error| missing(&program, &error));
        let log = Arc::new(Mutex::new(Vec::new()));
        collect(child.stderr.take().expect("standard error is piped"), Arc::clone(&log));
        (Self { name: name.to_owned(), child, log, quiet: false }, ())
    }

    fn reading_stdout(mut self) -> Self {
        if let Some(stdout) = self.child.stdout.take() {
            collect(stdout, Arc::clone(&self.log));
        }
        self
    }

    /// What the program has written so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no reader panics").join("\n")
    }

    /// Process id, for reading `/proc`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be waited for")
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        wait_for(&what, limit, || self.ended())
    }

    /// Waits until its log holds `text`.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) {
        let what = format!("{text:?} in the log of {}", self.name);
        wait_for(&what, limit, || {
            if self.log().contains(text) {
                return Some(());
            }
            if let Some(status) = self.ended() {
                panic!("{} ended with {status} before it wrote {text:?}:\n{}", self.name, self.log());
            }
            None
        });
    }

    /// Asks it to end as a terminal's user would (`SIGINT`, or another signal by name).
    pub fn signal(&self, signal: &str) {
        // The standard library sends only SIGKILL.
        let _ = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
    }

    /// Ends it now, and without a word even if the test fails later.
    pub fn kill(&mut self) {
        self.quiet = true;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() && !self.quiet {
            eprintln!("---- log of {} ----\n{}\n----", self.name, self.log());
        }
    }
}

/// Runs a program to its end and returns its standard output; panics with its standard error when it fails or takes too long.
#[track_caller]
pub fn run(name: &str, command: &mut Command, limit: Duration) -> String {
    let (mut process, stdin, mut stdout) = Process::talk(name, command);
    drop(stdin);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let status = process.wait(limit);
    let text = reader.join().expect("the reader does not panic").expect("standard output is text");
    assert!(status.success(), "{name} ended with {status}:\n{}", process.log());
    text
}

fn collect(stream: impl Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let mut log = log.lock().expect("no reader panics");
            if log.len() >= LOG_LINES {
                log.remove(LOG_LINES / 2);
            }
            log.push(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

#[track_caller]
fn missing(program: &OsStr, error: &std::io::Error) -> ! {
    panic!("cannot start {}: {error}. `scripts/setup.sh test` installs what the tests need", program.to_string_lossy())
}

//! A bad line between the server here and a viewer in a network namespace of its own: `tests/common/link.py` delays, loses and reorders their
//! packets. Whatever the protocol, retransmission is the kernel's or the client's own.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::Ipv4Addr;
use std::process::{ChildStdin, ChildStdout, Command};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::media::text;
use super::process::Process;
use super::root;

/// What happens to packets, the same both ways.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One way; the round trip takes twice as long.
    pub delay: Duration,
    /// Up to so much more for each packet. They keep their order.
    pub jitter: Duration,
    /// Share of packets that are lost each way, 0 to 1.
    pub loss: f64,
    /// Share of packets that are overtaken by later ones, 0 to 1.
    pub reorder: f64,
    /// Bits a second at the bottleneck.
    pub rate: Option<u64>,
    /// How much the bottleneck queues before it drops.
    pub queue: Duration,
}

impl Weather {
    /// A line that adds nothing.
    pub const FINE: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        reorder: 0.0,
        rate: None,
        queue: Duration::from_secs(1),
    };

    fn json(self) -> Value {
        json!({
            "delay_s": self.delay.as_secs_f64(), "jitter_s": self.jitter.as_secs_f64(), "loss": self.loss, "reorder": self.reorder,
            "rate": self.rate, "queue_s": self.queue.as_secs_f64(),
        })
    }
}

/// The line, gone when dropped.
pub struct Link {
    process: Process,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    namespace: String,
    near: Ipv4Addr,
    far: Ipv4Addr,
}

impl Link {
    /// Opens a line. The fates of its packets are drawn from `seed`. Both ends use CUBIC, whatever this machine prefers: BBR would not mind loss.
    #[track_caller]
    pub fn open(weather: Weather, seed: u64) -> Self {
        println!("a line with {weather:?}, seed {seed}");
        let mut told = weather.json();
        told["seed"] = seed.into();
        told["congestion"] = "cubic".into();
        let mut command = Command::new("python3");
        command.arg(text(&root().join("tests/common/link.py"))).arg(told.to_string());
        let (process, commands, stdout) = Process::talk("link", &mut command);
        let mut answers = BufReader::new(stdout).lines();
        let place = answer(&process, &mut answers);
        let field = |name: &str| place[name].as_str().expect("the line says where it is").to_owned();
        let address = |name: &str| field(name).parse().expect("an address");
        Self { namespace: field("namespace"), near: address("near"), far: address("far"), process, commands, answers }
    }

    /// This side's address: what listens on it can be reached from the far side.
    pub fn near(&self) -> Ipv4Addr {
        self.near
    }

    /// The far side's address.
    pub fn far(&self) -> Ipv4Addr {
        self.far
    }

    /// `program`, to be run on the far side, where nothing but [`Link::near`] and its own loopback can be reached.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// The weather changes.
    #[track_caller]
    pub fn change(&mut self, weather: Weather) {
        println!("the line changes to {weather:?}");
        writeln!(self.commands, "{}", weather.json()).expect("the line stands");
    }

    /// What happened so far: packets, bytes, lost, dropped and reordered, by direction (`out` is away from here, `back` is towards here).
    #[track_caller]
    pub fn counts(&mut self) -> Value {
        writeln!(self.commands, "counts").expect("the line stands");
        answer(&self.process, &mut self.answers)
    }
}

#[track_caller]
fn answer(process: &Process, answers: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = answers.next().and_then(Result::ok).unwrap_or_else(|| {
        // Its last words come through another pipe.
        thread::sleep(Duration::from_millis(100));
        panic!("there is no line; `scripts/setup.sh test` installs iproute2: {}", process.log())
    });
    serde_json::from_str(&line).expect("the line speaks JSON")
}

impl Drop for Link {
    fn drop(&mut self) {
        // It takes its namespace down when told to end; killed, it would leave it behind.
        let _ = writeln!(self.commands, "end");
        let end = Instant::now() + Duration::from_secs(5);
        while self.process.ended().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

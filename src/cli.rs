//! The command line: `serve`, `check-config`, `version`, `key`, `token`.

mod key;
mod token;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::app::{App, SetLogFilter};
use crate::config::{Config, LogFormat, Source};
use crate::edge::tls::Certificate;

/// How often threads without work are woken.
const IDLE_TURN: Duration = Duration::from_secs(2);

/// A live-streaming media server: RTMP in, low-latency HLS and DASH out.
#[derive(Debug, Parser)]
#[command(name = "rillcast", version, about, disable_help_subcommand = true)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    /// The configuration file. Without it, config.toml of the working directory, else the defaults.
    #[arg(long, global = true, env = "RILLCAST_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the server.
    Serve(Serve),
    /// Read the configuration, say what is wrong with it, and exit.
    CheckConfig,
    /// Print the version.
    Version,
    /// Keys: who may publish, and who may operate the server over the API.
    #[command(subcommand)]
    Key(key::Key),
    /// Signed tokens that expire: to publish with, or to watch with.
    #[command(subcommand)]
    Token(token::Token),
}

#[derive(Debug, Args)]
struct Serve {
    /// Once the server can serve, write the bound addresses to this file, as JSON.
    #[arg(long, value_name = "PATH")]
    ports_file: Option<PathBuf>,
}

impl Command {
    /// Does what was asked and returns when it is done. A thread of the server calls `at_rest` whenever it has nothing to do, and every few seconds:
    /// what it has freed is then the allocator's to give back.
    ///
    /// # Errors
    /// What went wrong, for a person to read.
    pub fn run(self, at_rest: fn()) -> anyhow::Result<()> {
        // Not for `version`: a broken configuration must not hide which version finds it broken.
        let mut source = Source::new(self.config);
        let mut load = || source.load();
        match self.verb {
            Verb::Version => {
                println!("rillcast {}", env!("CARGO_PKG_VERSION"));
                Ok(())
            }
            Verb::Serve(serve) => {
                let config = load()?;
                let set_log_filter = start_log(&config)?;
                raise_open_files();
                runtime(at_rest)?.block_on(async {
                    tokio::spawn(wake_all_threads());
                    let app = App::start(config, source, set_log_filter).await?;
                    if let Some(Err(error)) = serve.ports_file.as_deref().map(|path| app.write_ports(path)) {
                        // What was taken up is put down again for the next start.
                        app.stop().await;
                        return Err(error);
                    }
                    if std::io::stdout().is_terminal() {
                        println!("{}", app.greeting());
                    }
                    app.run_until_signal().await;
                    Ok(())
                })
            }
            Verb::CheckConfig => {
                let config = load()?;
                log_filter(&config.log.filter).map_err(anyhow::Error::msg)?;
                Certificate::check(&config.edge)?;
                println!("the configuration is good");
                Ok(())
            }
            Verb::Key(key) => key.run(&load()?),
            Verb::Token(token) => token.run(&load()?),
        }
    }
}

/// As many threads as there are cores. With one, tasks run in the thread that waits for them, which wakes up for less.
fn runtime(at_rest: fn()) -> std::io::Result<tokio::runtime::Runtime> {
    let alone = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder =
        if alone { tokio::runtime::Builder::new_current_thread() } else { tokio::runtime::Builder::new_multi_thread() };
    builder.enable_all().on_thread_park(at_rest).build()
}

/// Lets every thread come to rest anew now and then: one that has done nothing since a crowd left would keep what the crowd took.
async fn wake_all_threads() {
    let mut turns = tokio::time::interval(IDLE_TURN);
    loop {
        turns.tick().await;
        // More tasks than threads, and none done at once: then each thread takes some.
        for _ in 0..2 * tokio::runtime::Handle::current().metrics().num_workers() {
            tokio::spawn(tokio::task::yield_now());
        }
    }
}

/// Systems start programs with 1,024 open files for the sake of `select`, which nothing here uses. Every viewer needs one.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// Libraries that warn of what peers send them, as often as they send it. `log.filter` may say otherwise, since what comes later in a filter counts.
const QUIET: &str = "h2=error,hyper=error,rustls=error";

fn log_filter(filter: &str) -> Result<tracing_subscriber::EnvFilter, String> {
    let filter = tracing_subscriber::EnvFilter::try_new(format!("{QUIET},{filter}"));
    filter.map_err(|error| format!("log.filter: {error}"))
}

fn start_log(config: &Config) -> anyhow::Result<SetLogFilter> {
    let filter = log_filter(&config.log.filter).map_err(anyhow::Error::msg)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // The two formats are two types, and so are the handles on their filters.
    Ok(match config.log.format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(log_filter(filter)?).map_err(|error| error.to_string()))
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(log_filter(filter)?).map_err(|error| error.to_string()))
        }
    })
}

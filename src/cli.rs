//! The command line: `serve`, `check-config`, `version`, `key`, `token`.

mod key;
mod token;

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::app::{App, SetLogFilter};
use crate::config::{Config, LogFormat, Source};

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
    /// Does what was asked and returns when it is done.
    ///
    /// # Errors
    /// What went wrong, for a person to read.
    pub fn run(self) -> anyhow::Result<()> {
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
                runtime()?.block_on(async {
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
                load()?;
                println!("the configuration is good");
                Ok(())
            }
            Verb::Key(key) => key.run(&load()?),
            Verb::Token(token) => token.run(&load()?),
        }
    }
}

/// As many threads as there are cores. With one, tasks run in the thread that waits for them, which wakes up for less.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let alone = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder =
        if alone { tokio::runtime::Builder::new_current_thread() } else { tokio::runtime::Builder::new_multi_thread() };
    builder.enable_all().build()
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

fn start_log(config: &Config) -> anyhow::Result<SetLogFilter> {
    let parse = |filter: &str| {
        let filter = tracing_subscriber::EnvFilter::try_new(filter);
        filter.map_err(|error| format!("log.filter: {error}"))
    };
    let filter = parse(&config.log.filter).map_err(anyhow::Error::msg)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // The two formats are two types, and so are the handles on their filters.
    Ok(match config.log.format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(parse(filter)?).map_err(|error| error.to_string()))
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(parse(filter)?).map_err(|error| error.to_string()))
        }
    })
}

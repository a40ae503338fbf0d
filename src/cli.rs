//! The command line: `serve`, `check-config`, `version`, `key`.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::app::App;
use crate::config::{Config, LogFormat};
use crate::control::keys::KeyStore;
use crate::media::StreamName;
use crate::packager::live;

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
    /// Stream keys: who may publish.
    #[command(subcommand)]
    Key(Key),
}

#[derive(Debug, Args)]
struct Serve {
    /// Once the server can serve, write the bound addresses to this file, as JSON.
    #[arg(long, value_name = "PATH")]
    ports_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Key {
    /// Make a key for a stream and print, once, what to paste into OBS.
    Add {
        /// APP/NAME, for example live/studio.
        stream: StreamName,
    },
    /// List the keys, without their secrets.
    List,
    /// Take a key back.
    Revoke {
        /// The id that `key list` shows.
        id: String,
    },
}

impl Command {
    /// Does what was asked and returns when it is done.
    ///
    /// # Errors
    /// What went wrong, for a person to read.
    pub fn run(self) -> anyhow::Result<()> {
        if matches!(self.verb, Verb::Version) {
            println!("rillcast {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        let config = Config::load(self.config.as_deref())?;
        match self.verb {
            Verb::Serve(serve) => {
                start_log(&config)?;
                raise_open_files();
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                runtime.block_on(async {
                    let app = App::start(config).await?;
                    if let Some(path) = &serve.ports_file {
                        app.write_ports(path)?;
                    }
                    if std::io::stdout().is_terminal() {
                        println!("{}", app.greeting());
                    }
                    app.run_until_signal().await
                })
            }
            Verb::CheckConfig => {
                println!("the configuration is good");
                Ok(())
            }
            Verb::Key(key) => run_key(&config, key),
            Verb::Version => Ok(()),
        }
    }
}

fn run_key(config: &Config, key: Key) -> anyhow::Result<()> {
    let keys = KeyStore::new(&config.data_dir);
    match key {
        Key::Add { stream } => {
            let made = keys.add(&stream, live::now())?;
            println!("Publish {stream} with this stream key. It is shown only once.\n");
            println!("  OBS, Settings, Stream");
            println!("    Service      Custom...");
            println!("    Server       rtmp://HOST/{}", stream.app());
            println!("    Stream Key   {}\n", made.paste);
            println!("Take it back with: rillcast key revoke {}", made.id);
        }
        Key::List => {
            for key in keys.list()? {
                println!("{}  {}  {}", key.id, key.created, key.stream);
            }
        }
        Key::Revoke { id } => {
            let key = keys.revoke(&id)?.with_context(|| format!("there is no key with the id {id}"))?;
            println!("{id} can no longer be used to publish {}", key.stream);
        }
    }
    Ok(())
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

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.filter)
        .with_context(|| format!("log.filter '{}' is not a filter", config.log.filter))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

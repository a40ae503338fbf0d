//! `rillcast token`.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use humantime_serde::re::humantime;

use super::key::expiry;
use crate::config::Config;
use crate::control::pattern::{IpRange, StreamPattern};
use crate::control::secrets::Secrets;
use crate::control::token::{self, Action, Claims};
use crate::media::wall_clock::now;

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Sign a token to publish with, and print what to paste into OBS.
    Publish(Sign),
    /// Sign a token to watch with, and print the URL.
    Watch(Sign),
    /// Make a new secret. Tokens signed with one of the last few stay good until they expire.
    Rotate,
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// APP/NAME, or APP/* for every name of an application.
    stream: StreamPattern,
    /// It is good for this long, for example 2h; at most 400 days.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    expires: Duration,
    /// The address or range that alone may use it.
    #[arg(long, value_name = "RANGE")]
    ip: Option<IpRange>,
    /// Who it is for: publishers with the same subject are the same person.
    #[arg(long, value_name = "WHO")]
    subject: Option<String>,
}

impl Token {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let secrets = Secrets::new(&config.data_dir);
        secrets.configure(&config.access.token_secrets);
        match self {
            Self::Publish(sign) => {
                let (claims, token) = sign.sign(&secrets, Action::Publish)?;
                println!("Publish {} with this stream key until {}.\n", claims.stream, end(&claims));
                println!("  OBS, Settings, Stream");
                println!("    Service      Custom...");
                println!("    Server       rtmp://HOST/{}", claims.stream.app());
                println!("    Stream Key   {}?token={token}", claims.stream.name_or_placeholder());
            }
            Self::Watch(sign) => {
                let (claims, token) = sign.sign(&secrets, Action::Watch)?;
                let place = format!("{}/{}", claims.stream.app(), claims.stream.name_or_placeholder());
                let http = config.edge.http.port();
                println!("Watch {} here until {}.\n", claims.stream, end(&claims));
                println!("  http://HOST:{http}/t/{token}/{place}\n");
                println!("  HLS   http://HOST:{http}/t/{token}/{place}/index.m3u8");
                println!("  DASH  http://HOST:{http}/t/{token}/{place}/manifest.mpd");
            }
            Self::Rotate => {
                anyhow::ensure!(
                    config.access.token_secrets.is_empty(),
                    "the configuration names access.token_secrets: put a new one in front of them there"
                );
                secrets.rotate()?;
                println!("New tokens are signed with a new secret; a running server takes them within a second.");
            }
        }
        Ok(())
    }
}

impl Sign {
    fn sign(self, secrets: &Secrets, action: Action) -> anyhow::Result<(Claims, String)> {
        let exp = expiry(self.expires)?.millis().div_euclid(1_000);
        let claims = Claims { action, stream: self.stream, exp, nbf: None, ip: self.ip, sub: self.subject };
        let key = secrets.signing()?;
        let token = token::sign(&key, &claims);
        token::verify(&[key], &token, now()).context("no server would take this token")?;
        Ok((claims, token))
    }
}

fn end(claims: &Claims) -> String {
    crate::media::WallTime::from_micros(claims.exp.saturating_mul(1_000_000)).rfc3339()
}

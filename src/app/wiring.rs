//! Lets `control` answer what ingest and edge ask: neither knows the other's words.

use std::net::IpAddr;
use std::sync::Arc;

use crate::control::access::{Access, Attempt, No, Shown, Why};
use crate::edge::MayWatch;
use crate::ingest::publish::{Answer, Grant, Lease};
use crate::ingest::{Authorise, Credential, PublishRequest, Refusal, RefusalKind};
use crate::media::StreamName;
use crate::packager::live::now;

/// Publishers are let in by `control`.
pub(super) struct Publishers(pub(super) Arc<Access>);

impl Authorise for Publishers {
    fn authorise<'a>(&'a self, request: &'a PublishRequest) -> Answer<'a> {
        Box::pin(async move {
            let shown = match &request.credential {
                Credential::None => Shown::Nothing,
                Credential::Key(key) => Shown::Key(key),
                Credential::Token(token) => Shown::Token(token),
            };
            let attempt = Attempt {
                stream: &request.name,
                shown,
                query: &request.query.0,
                peer: request.peer,
                protocol: request.protocol,
            };
            let permit = self.0.may_publish(attempt, now()).await.map_err(refusal)?;
            let lease = permit.lease.map(Lease::new);
            Ok(Grant { holder: permit.holder, takeover: permit.takeover, limits: permit.limits, lease })
        })
    }
}

fn refusal(no: No) -> Refusal {
    let kind = match no.why {
        Why::Unauthorized => RefusalKind::Unauthorized,
        Why::Denied => RefusalKind::Denied,
        Why::Unavailable => RefusalKind::Unavailable,
    };
    Refusal::new(kind, no.words)
}

/// So are viewers.
pub(super) struct Viewers(pub(super) Arc<Access>);

impl MayWatch for Viewers {
    fn may_watch(&self, stream: &StreamName, token: Option<&str>, peer: IpAddr) -> Result<(), String> {
        self.0.may_watch(stream, token, peer, now()).map_err(|why| why.to_string())
    }

    fn is_good(&self, token: &str) -> Result<(), String> {
        self.0.is_watch_token(token, now()).map_err(|why| why.to_string())
    }
}

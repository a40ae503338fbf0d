//! Lets modules answer each other that do not know each other: `control` decides for ingest and edge, and shows what they measure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::reload::Reloader;
use crate::control::access::{self, Access};
use crate::control::api;
use crate::edge::{self, Edge, MayWatch};
use crate::ingest::publish::{Answer, Grant, Lease};
use crate::ingest::report::Board;
use crate::ingest::{self, Authorise, Credential, PublishRequest, Refusal, RefusalKind};
use crate::media::StreamName;
use crate::media::wall_clock::now;
use crate::packager::live::Registry;

/// Publishers are let in by `control`.
pub(super) struct Publishers(pub(super) Arc<Access>);

impl Authorise for Publishers {
    fn authorise<'a>(&'a self, request: &'a PublishRequest) -> Answer<'a> {
        Box::pin(async move {
            let credential = match &request.credential {
                Credential::None => access::Credential::None,
                Credential::Key(key) => access::Credential::Key(key),
                Credential::Token(token) => access::Credential::Token(token),
            };
            let question = access::PublishRequest {
                stream: &request.name,
                credential,
                query: &request.query.0,
                peer: request.peer,
                protocol: request.protocol,
            };
            let access::Grant { holder, takeover, limits, lease } =
                self.0.may_publish(question, now()).await.map_err(refusal)?;
            Ok(Grant { holder, takeover, limits, lease: lease.map(Lease::new) })
        })
    }
}

fn refusal(refusal: access::Refusal) -> Refusal {
    let kind = match refusal.kind {
        access::RefusalKind::Unauthorized => RefusalKind::Unauthorized,
        access::RefusalKind::Denied => RefusalKind::Denied,
        access::RefusalKind::Unavailable => RefusalKind::Unavailable,
    };
    Refusal::new(kind, refusal.words)
}

/// So are viewers.
pub(super) struct Viewers(pub(super) Arc<Access>);

impl MayWatch for Viewers {
    fn may_watch(&self, stream: &StreamName, token: Option<&str>, peer: IpAddr) -> Result<(), String> {
        self.0.may_watch(stream, token, peer, now).map_err(|why| why.to_string())
    }

    fn is_good(&self, token: &str) -> Result<(), String> {
        self.0.is_watch_token(token, now()).map_err(|why| why.to_string())
    }
}

/// What the API looks at. Edge serves the API, so the API must not keep edge alive.
pub(super) fn api(
    registry: &Arc<Registry>,
    edge: &Arc<Edge>,
    reports: &Arc<Board>,
    access: &Arc<Access>,
    reloader: &Arc<Reloader>,
) -> api::Context {
    let (edge, reports, reloader) = (Arc::downgrade(edge), Arc::clone(reports), Arc::clone(reloader));
    api::Context::new(
        Arc::clone(registry),
        Arc::new(move |stream| edge.upgrade().map_or(0, |edge| edge.viewers(stream))),
        Arc::new(move |stream| reports.report(stream, Instant::now())),
        Arc::clone(access),
        Arc::new(move || reloader.reload()),
    )
}

/// Brings up to date what nobody counts as it happens, before metrics are read.
pub(super) fn refresh(edge: &Arc<Edge>, metrics: &ingest::Metrics, reports: &Arc<Board>) -> edge::admin::Refresh {
    let (edge, metrics, reports) = (Arc::clone(edge), metrics.clone(), Arc::clone(reports));
    Arc::new(move || {
        edge.refresh_metrics();
        metrics.set_health(reports.health(Instant::now()));
    })
}

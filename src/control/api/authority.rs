//! Who may change something over the API: whoever has an API key; as long as there is none, programs on this machine.
//!
//! "On this machine" is what the connection says, and no proxy in between: with `Forwarded`, `Via` or one of the `X-` headers of proxies it is somebody
//! else. Nor is it a page of another site in a browser on this machine: what browsers send on behalf of a page carries an `Origin`, which then must be
//! this machine too, and so must the `Host` be, since a name of somebody else's may resolve to here (DNS rebinding).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{
    AUTHORIZATION, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, VIA, WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::task::JoinError;

use super::{Context, Problem};
use crate::control::file;
use crate::control::keys::Shown;
use crate::media::wall_clock::now;

/// Headers that a proxy on the way leaves behind.
const TRACES_OF_PROXIES: [HeaderName; 6] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];
/// Longer than any key.
const MAX_AUTHORIZATION_BYTES: usize = 512;

/// Who asks, as far as authority goes by it.
pub(super) struct Asker {
    /// The server always says who asks; without it nobody is trusted.
    peer: Option<SocketAddr>,
    headers: HeaderMap,
    /// Of HTTP/2, in place of `Host`.
    authority: Option<Authority>,
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let (headers, authority) = (parts.headers.clone(), parts.uri.authority().cloned());
        Ok(Self { peer: parts.extensions.get().copied(), headers, authority })
    }
}

/// Lets a request through, or answers it. Layered around every route that changes something.
pub(super) async fn required(State(context): State<Context>, asker: Asker, request: Request, next: Next) -> Response {
    match check(&context, &asker).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

/// Whether the one that asks could operate the server, and so may see more of it than others. Whoever shows a wrong key sees what everybody sees.
pub(super) async fn has(context: &Context, asker: &Asker) -> bool {
    let Some(peer) = asker.peer else { return false };
    match verify(context, bearer(&asker.headers)).await {
        Ok(Ok(Shown::Good)) => true,
        Ok(Ok(Shown::NoKeys)) => without_keys(asker, peer).is_ok(),
        Ok(Ok(Shown::Wrong) | Err(_)) | Err(_) => false,
    }
}

async fn verify(context: &Context, key: Option<&str>) -> Result<Result<Shown, file::Error>, JoinError> {
    let (keys, key) = (context.access.keys().clone(), key.map(str::to_owned));
    tokio::task::spawn_blocking(move || keys.authorise_api(key.as_deref(), now())).await
}

async fn check(context: &Context, asker: &Asker) -> Result<(), Response> {
    let Some(peer) = asker.peer else { return Err(forbidden("nobody knows where this request comes from")) };
    let shown = bearer(&asker.headers);
    match verify(context, shown).await {
        // Nobody guesses 256 bits: a right key is good whoever else guesses at this address.
        Ok(Ok(Shown::Good)) => Ok(()),
        Ok(Ok(Shown::Wrong)) => {
            if shown.is_some() {
                if let Err(pause) = context.backoff.check(peer.ip(), Instant::now()) {
                    let rule = "too many wrong API keys came from this address, and this is another one";
                    let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, rule).into_response();
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(pause.as_secs() + 1));
                    return Err(response);
                }
                context.backoff.mistake(peer.ip(), Instant::now());
            }
            let rule = "this needs an API key that is good: Authorization: Bearer ra_…, made by rillcast key add --api";
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, rule).into_response();
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            Err(response)
        }
        Ok(Ok(Shown::NoKeys)) => without_keys(asker, peer).map_err(forbidden),
        Ok(Err(error)) => {
            if let Some(silent) = context.unreadable.speak(Instant::now()) {
                tracing::error!(%error, silent, "nobody can operate the server: the key store cannot be read");
            }
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the key store cannot be read; the log says why")
                .into_response())
        }
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping").into_response()),
    }
}

fn without_keys(asker: &Asker, peer: SocketAddr) -> Result<(), &'static str> {
    let Asker { headers, authority, .. } = asker;
    if !peer.ip().to_canonical().is_loopback() {
        return Err(
            "without an API key this can be done from the server's own machine alone; make one: rillcast key add --api",
        );
    }
    if TRACES_OF_PROXIES.iter().any(|trace| headers.contains_key(trace)) {
        return Err("this came through a proxy, so it needs an API key; make one: rillcast key add --api");
    }
    if headers.get_all(ORIGIN).iter().any(|origin| !is_origin_here(origin)) {
        return Err("a page of another site asks for this, so it needs an API key; make one: rillcast key add --api");
    }
    let is_host_here = |host: &HeaderValue| {
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        host.is_some_and(|host| is_this_machine(host.host()))
    };
    let here = authority.as_ref().is_none_or(|authority| is_this_machine(authority.host()));
    if !here || !headers.get_all(HOST).iter().all(is_host_here) {
        return Err(
            "without an API key this is done at localhost, 127.0.0.1 or [::1]; make one: rillcast key add --api",
        );
    }
    Ok(())
}

fn is_origin_here(origin: &HeaderValue) -> bool {
    let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
    origin.is_some_and(|uri| is_this_machine(uri.host().unwrap_or("")))
}

/// `localhost`, `127.0.0.1`, `[::1]`. A name that merely resolves to this machine is not enough: whoever owns the name decides that.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The key of `Authorization: Bearer KEY`. Spec: RFC 6750 §2.1.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    let good = scheme.eq_ignore_ascii_case("bearer") && value.len() <= MAX_AUTHORIZATION_BYTES;
    // A wrong scheme or a huge value is a wrong key, not no key.
    Some(if good { key.trim() } else { "" })
}

fn forbidden(rule: &str) -> Response {
    Problem::new(StatusCode::FORBIDDEN, rule).into_response()
}

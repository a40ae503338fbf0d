//! Who may change something over the API: whoever has an API key; as long as there is none, programs on this machine.
//!
//! "On this machine" is what the connection says, and no proxy in between: with `Forwarded` or `X-Forwarded-For` it is somebody else. Nor is it a page of
//! another site in a browser on this machine: what browsers send on behalf of a page carries an `Origin`, which then must be this machine too.

use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, FORWARDED, HeaderMap, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Context, Problem};
use crate::media::wall_clock::now;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Longer than any key.
const MAX_AUTHORIZATION_BYTES: usize = 512;

/// Lets a request through, or answers it. Layered around every route that changes something.
pub(super) async fn required(State(context): State<Context>, request: Request, next: Next) -> Response {
    match check(&context, request.headers(), request.extensions().get().copied()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

async fn check(context: &Context, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<(), Response> {
    // The server always says who asks; without it nobody is trusted.
    let Some(peer) = peer else { return Err(forbidden("nobody knows where this request comes from")) };
    if let Err(pause) = context.backoff.check(peer.ip(), Instant::now()) {
        let mut response =
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong API keys came from this address")
                .into_response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(pause.as_secs() + 1));
        return Err(response);
    }
    let shown = bearer(headers).map(str::to_owned);
    let (keys, key) = (context.access.keys().clone(), shown.clone());
    let checked = tokio::task::spawn_blocking(move || keys.authorize_api(key.as_deref(), now())).await;
    match checked {
        Ok(Ok(Some(true))) => {
            context.backoff.success(peer.ip());
            Ok(())
        }
        Ok(Ok(Some(false))) => {
            if shown.is_some() {
                context.backoff.mistake(peer.ip(), Instant::now());
            }
            let rule = "this needs an API key that is good: Authorization: Bearer ra_…, made by rillcast key add --api";
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, rule).into_response();
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            Err(response)
        }
        Ok(Ok(None)) => without_keys(headers, peer).map_err(forbidden),
        Ok(Err(error)) => {
            tracing::error!(%error, "nobody can operate the server: the key store cannot be read");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the key store cannot be read; the log says why")
                .into_response())
        }
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping").into_response()),
    }
}

fn without_keys(headers: &HeaderMap, peer: SocketAddr) -> Result<(), &'static str> {
    if !peer.ip().to_canonical().is_loopback() {
        return Err(
            "without an API key this can be done from the server's own machine alone; make one: rillcast key add --api",
        );
    }
    if headers.contains_key(FORWARDED) || headers.contains_key(X_FORWARDED_FOR) {
        return Err("this came through a proxy, so it needs an API key; make one: rillcast key add --api");
    }
    if headers.get_all(ORIGIN).iter().any(|origin| !is_this_machine(origin)) {
        return Err("a page of another site asks for this, so it needs an API key; make one: rillcast key add --api");
    }
    Ok(())
}

/// `http://localhost:8080`, `http://127.0.0.1`, `http://[::1]:1`. A name that merely resolves to this machine is not enough: whoever owns the name
/// decides that (DNS rebinding).
fn is_this_machine(origin: &HeaderValue) -> bool {
    let Some(uri) = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok()) else { return false };
    let host = uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
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

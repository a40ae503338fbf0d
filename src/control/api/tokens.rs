//! `/api/v1/tokens`: signed tokens that expire.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::Input;
use super::{Context, Problem, blocking};
use crate::control::pattern::{IpRange, StreamPattern};
use crate::control::token::{self, Action, Claims};
use crate::media::wall_clock::now;

/// A token to be signed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// `publish` or `watch`.
    #[schema(value_type = String, example = "watch")]
    action: Action,
    /// `APP/NAME` or `APP/*`.
    #[schema(value_type = String, example = "live/me")]
    stream: StreamPattern,
    /// Seconds from now, at least 1, at most 400 days.
    #[schema(example = 7200)]
    expires_in: u32,
    /// The address or range that alone may use it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    ip: Option<IpRange>,
    /// Who it is for: publishers with the same subject are the same person.
    #[serde(default)]
    subject: Option<String>,
}

/// A signed token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Signed {
    token: String,
    /// RFC 3339.
    expires: String,
    /// Of a publish token, what to paste into the encoder.
    stream_key: Option<String>,
    /// Of a watch token, where to watch, relative to this server.
    url: Option<String>,
}

/// Signs a token to publish or to watch with.
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    request_body = NewToken,
    security(("api_key" = [])),
    responses(
        (status = 201, description = "The token", body = Signed),
        (status = 400, description = "Which field breaks which rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn sign(
    State(context): State<Context>,
    Input(new): Input<NewToken>,
) -> Result<(StatusCode, Json<Signed>), Problem> {
    if new.expires_in == 0 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "expires_in must be at least 1"));
    }
    if i64::from(new.expires_in) > token::MAX_LIFETIME {
        let rule = format!("expires_in must be at most {}, 400 days", token::MAX_LIFETIME);
        return Err(Problem::new(StatusCode::BAD_REQUEST, rule));
    }
    let access = context.access.clone();
    let key = blocking(move || access.secrets().signing()).await?;
    let now = now();
    let lifetime = i64::from(new.expires_in);
    let claims = Claims {
        action: new.action,
        stream: new.stream,
        exp: now.millis().div_euclid(1_000).saturating_add(lifetime),
        nbf: None,
        ip: new.ip,
        sub: new.subject,
    };
    let token = token::sign(&key, &claims);
    // What would not be taken back is not given out.
    token::verify(&[key], &token, now).map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.to_string()))?;
    let name = claims.stream.name_or_placeholder();
    let (stream_key, url) = match claims.action {
        Action::Publish => (Some(format!("{name}?token={token}")), None),
        Action::Watch => (None, Some(format!("/t/{token}/{}/{name}", claims.stream.app()))),
    };
    let expires = now.plus_micros(lifetime.saturating_mul(1_000_000)).rfc3339();
    Ok((StatusCode::CREATED, Json(Signed { token, expires, stream_key, url })))
}

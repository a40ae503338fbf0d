//! `/api/v1/keys`: who may publish, and who may operate the server.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::input::{InPath, Input};
use super::{Context, Problem, blocking};
use crate::control::access::holder_of_key;
use crate::control::json::Object;
use crate::control::keys::{ApiKey, Conditions, Key, Revoked};
use crate::control::pattern::{IpRange, StreamPattern};
use crate::media::wall_clock::now;
use crate::media::{Limits, Takeover};
use crate::packager::live::State as Presence;

/// All keys, without their secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<KeyView>,
    api_keys: Vec<ApiKeyView>,
}

/// A stream key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
struct KeyView {
    id: String,
    /// `APP/NAME` or `APP/*`.
    stream: String,
    /// RFC 3339.
    created: String,
    #[serde(flatten)]
    conditions: ConditionsView,
}

/// Under which conditions a key is good.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conditions)]
struct ConditionsView {
    /// RFC 3339; null: never.
    expires: Option<String>,
    /// `when_silent`: a second publisher takes over from one that has brought no media for two seconds; `always`: at once.
    #[schema(value_type = String)]
    takeover: Takeover,
    /// Addresses and ranges; empty: from anywhere.
    #[schema(value_type = Vec<String>)]
    allow: Vec<IpRange>,
    /// Streams at a time.
    max_publishers: Option<u32>,
    #[schema(value_type = LimitsView)]
    limits: Limits,
}

// It describes `media::Limits` to OpenAPI, of which that module knows nothing.
/// What a publisher may bring; what is absent is not limited.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Limits)]
struct LimitsView {
    /// Bits a second, over ten seconds.
    max_bitrate: Option<u64>,
    /// Pixels.
    max_width: Option<u16>,
    /// Pixels.
    max_height: Option<u16>,
    /// Of one connection, however often it stops and begins again, as "2h 30min".
    max_duration: Option<String>,
}

/// An API key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
struct ApiKeyView {
    id: String,
    /// RFC 3339.
    created: String,
    /// RFC 3339; null: never.
    expires: Option<String>,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// `APP/NAME` or `APP/*`.
    #[schema(value_type = String, example = "live/me")]
    stream: StreamPattern,
    /// RFC 3339.
    #[serde(default)]
    expires: Option<String>,
    /// `when_silent` or `always`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    takeover: Option<Takeover>,
    /// Addresses and ranges, at most 32.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    allow: Option<Vec<IpRange>>,
    /// Streams at a time.
    #[serde(default)]
    max_publishers: Option<u32>,
    #[serde(default)]
    #[schema(value_type = Option<LimitsView>)]
    limits: Option<Object<Limits>>,
}

/// A key that was made. It cannot be shown again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Made {
    /// What to revoke it by.
    id: String,
    /// What to paste into the encoder.
    stream_key: String,
}

/// How to revoke.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Revoke {
    /// Disconnects who publishes with it now.
    #[param(required = false)]
    kick: bool,
}

/// Lists the keys, without their secrets.
#[utoipa::path(
    get,
    path = "/api/v1/keys",
    security(("api_key" = [])),
    responses((status = 200, description = "All keys, oldest first", body = Keys))
)]
pub(super) async fn list(State(context): State<Context>) -> Result<Json<Keys>, Problem> {
    let store = context.access.keys().clone();
    let (keys, api_keys) = blocking(move || Ok((store.list()?, store.list_api()?))).await?;
    Ok(Json(Keys {
        keys: keys.into_iter().map(key_view).collect(),
        api_keys: api_keys.into_iter().map(api_key_view).collect(),
    }))
}

/// Makes a stream key.
#[utoipa::path(
    post,
    path = "/api/v1/keys",
    request_body = NewKey,
    security(("api_key" = [])),
    responses(
        (status = 201, description = "The key; it cannot be shown again", body = Made),
        (status = 400, description = "Which field breaks which rule", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are as many keys as are kept", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn add(
    State(context): State<Context>,
    Input(new): Input<NewKey>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let NewKey { stream, expires, takeover, allow, max_publishers, limits } = new;
    let conditions = Conditions {
        expires,
        takeover: takeover.unwrap_or_default(),
        allow: allow.unwrap_or_default(),
        max_publishers,
        limits: limits.map(|Object(limits)| limits).unwrap_or_default(),
    };
    conditions.validate().map_err(|rule| Problem::new(StatusCode::BAD_REQUEST, rule))?;
    if conditions.is_over(now()) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "expires: this is past already"));
    }
    let store = context.access.keys().clone();
    let made = blocking(move || store.add(&stream, conditions, now())).await?;
    Ok((StatusCode::CREATED, Json(Made { id: made.id, stream_key: made.paste })))
}

/// Takes a key back, of a stream or of the API.
///
/// Who publishes with it goes on, unless `kick` says otherwise.
#[utoipa::path(
    delete,
    path = "/api/v1/keys/{id}",
    params(("id" = String, Path, description = "As the list shows it"), Revoke),
    security(("api_key" = [])),
    responses(
        (status = 204, description = "It is no longer good"),
        (status = 404, description = "No such key", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    State(context): State<Context>,
    InPath(id): InPath<String>,
    how: Result<Query<Revoke>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Query(how) = how.map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let (store, wanted) = (context.access.keys().clone(), id.clone());
    let revoked = blocking(move || store.revoke(&wanted)).await?;
    let Some(revoked) = revoked else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such key"));
    };
    if let (Revoked::Stream(_), true) = (&revoked, how.kick) {
        let holder = holder_of_key(&id);
        for stream in context.registry.streams().iter().filter(|stream| stream.state() == Presence::Live) {
            if stream.publisher().holder == holder {
                stream.stop("the key was revoked");
            }
        }
    }
    tracing::info!(id, "a key was revoked over the API");
    Ok(StatusCode::NO_CONTENT)
}

fn key_view(key: Key) -> KeyView {
    let Conditions { expires, takeover, allow, max_publishers, limits } = key.conditions;
    let conditions = ConditionsView { expires, takeover, allow, max_publishers, limits };
    KeyView { id: key.id, stream: key.stream.to_string(), created: key.created, conditions }
}

fn api_key_view(key: ApiKey) -> ApiKeyView {
    ApiKeyView { id: key.id, created: key.created, expires: key.expires }
}

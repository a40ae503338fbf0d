//! What operators do: send a publisher away, read the configuration again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::{InPath, Input};
use super::streams::{name_of, no_stream};
use super::{Context, Problem};
use crate::packager::live::State as Presence;

/// Most of what a publisher is told, in characters.
const MAX_WORDS: usize = 200;

/// What a publisher is told.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Farewell {
    /// One sentence, at most 200 characters.
    #[schema(example = "the show is over")]
    words: Option<String>,
}

/// What a reload did. Keys as `config.toml` names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// What changed and holds from now on.
    pub changed: Vec<String>,
    /// What changed in the file, but holds from the next start on only.
    pub restart: Vec<String>,
}

/// Reads the configuration again; says what is wrong with it otherwise. May touch the disk.
pub type Reload = Arc<dyn Fn() -> Result<Reloaded, String> + Send + Sync>;

/// Sends the publisher of a stream away.
///
/// The stream waits for it to come back, which it may; revoke its key first if it must not.
#[utoipa::path(
    post,
    path = "/api/v1/streams/{app}/{name}/kick",
    params(("app" = String, Path, description = "Application"), ("name" = String, Path, description = "Stream name")),
    request_body = Option<Farewell>,
    security(("api_key" = [])),
    responses(
        (status = 204, description = "It is being disconnected"),
        (status = 404, description = "No such stream", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Nobody publishes it", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn kick(
    State(context): State<Context>,
    InPath((app, name)): InPath<(String, String)>,
    Input(farewell): Input<Option<Farewell>>,
) -> Result<StatusCode, Problem> {
    let (name, words) = (name_of(&app, &name)?, words_of(farewell)?);
    let stream = context.registry.stream(&name).ok_or_else(|| no_stream(&name))?;
    if stream.state() != Presence::Live {
        return Err(Problem::new(StatusCode::CONFLICT, format!("nobody publishes {name} now")));
    }
    tracing::info!(stream = %name, words, "the publisher is sent away over the API");
    stream.stop(words);
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a stream, whether it is being published or waits for its publisher.
///
/// A publisher is sent away; if it comes back, a new life of the stream begins.
#[utoipa::path(
    post,
    path = "/api/v1/streams/{app}/{name}/end",
    params(("app" = String, Path, description = "Application"), ("name" = String, Path, description = "Stream name")),
    request_body = Option<Farewell>,
    security(("api_key" = [])),
    responses(
        (status = 204, description = "It has ended"),
        (status = 404, description = "No such stream", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended already", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn end(
    State(context): State<Context>,
    InPath((app, name)): InPath<(String, String)>,
    Input(farewell): Input<Option<Farewell>>,
) -> Result<StatusCode, Problem> {
    let (name, words) = (name_of(&app, &name)?, words_of(farewell)?);
    if context.registry.stream(&name).is_none() {
        return Err(no_stream(&name));
    }
    if !context.registry.end(&name, &words) {
        return Err(Problem::new(StatusCode::CONFLICT, format!("{name} has ended already")));
    }
    tracing::info!(stream = %name, words, "the stream was ended over the API");
    Ok(StatusCode::NO_CONTENT)
}

fn words_of(farewell: Option<Farewell>) -> Result<String, Problem> {
    let words = farewell.and_then(|farewell| farewell.words).unwrap_or_else(|| "ended by the operator".into());
    if words.chars().count() > MAX_WORDS || words.trim().is_empty() || words.chars().any(char::is_control) {
        let rule = format!("words: one line of 1 to {MAX_WORDS} characters");
        return Err(Problem::new(StatusCode::BAD_REQUEST, rule));
    }
    Ok(words)
}

/// Reads the configuration file again, as SIGHUP does.
///
/// What can change while the server runs takes effect: `[access]`, `log.filter`, the certificate. A file with a mistake changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    security(("api_key" = [])),
    responses(
        (status = 200, description = "What changed", body = Reloaded),
        (status = 422, description = "Why nothing did", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn reload(State(context): State<Context>) -> Result<Json<Reloaded>, Problem> {
    let reload = Arc::clone(&context.reload);
    match tokio::task::spawn_blocking(move || reload()).await {
        Ok(Ok(reloaded)) => Ok(Json(reloaded)),
        Ok(Err(why)) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)),
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")),
    }
}

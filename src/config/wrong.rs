//! What is wrong with a configuration, in words that name file, line and key, and never a value that may be secret.

use figment::Error;
use figment::error::{Actual, Kind};

/// Tables whose values are not repeated: secrets, and URLs that may hold a password.
const SECRET: [&str; 2] = ["access", "control"];

/// All that is wrong, one sentence a mistake.
pub(super) fn words(error: Error) -> String {
    let all: Vec<String> = error.into_iter().map(|error| sentence(&error)).collect();
    all.join("; ")
}

fn sentence(error: &Error) -> String {
    let path = error.path.join(".");
    match (&error.kind, error.path.first()) {
        // What cannot be read has no path, and its message quotes the line, which may be anything.
        (Kind::Message(message), None) => syntax(message),
        (kind, Some(table)) if SECRET.contains(&table.as_str()) => format!("{path}: {}", rule(kind)),
        (kind, Some(_)) => format!("{path}: {kind}"),
        (kind @ (Kind::UnknownField(..) | Kind::MissingField(_) | Kind::DuplicateField(_)), None) => kind.to_string(),
        (kind, None) => rule(kind),
    }
}

/// `TOML parse error at line 3, column 5` and the source line below it, without that line.
fn syntax(message: &str) -> String {
    let place = message.lines().next().and_then(|line| line.strip_prefix("TOML parse error at "));
    match place {
        Some(place) => format!("{place}: this is no TOML"),
        None => "this is no TOML".into(),
    }
}

/// The rule that is broken, without what breaks it.
fn rule(kind: &Kind) -> String {
    match kind {
        Kind::Message(_) => "this is not written as config.toml says".into(),
        Kind::InvalidType(actual, expected) => format!("expected {expected}, found {}", kind_of(actual)),
        Kind::InvalidValue(_, expected) | Kind::InvalidLength(_, expected) => format!("expected {expected}"),
        Kind::UnknownVariant(_, known) => format!("expected one of: {}", known.join(", ")),
        Kind::UnknownField(..) | Kind::MissingField(_) | Kind::DuplicateField(_) => kind.to_string(),
        _ => "the value is of a kind that this key does not take".into(),
    }
}

fn kind_of(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

//! Who may do what.

use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use compact_str::CompactString;

use crate::keys::Scope;
use crate::problem::Problem;
use crate::state::ApiState;

/// The name under which a request's commands are booked.
#[derive(Clone)]
pub(crate) struct Actor(pub(crate) CompactString);

fn scope(method: &Method, path: &str) -> Scope {
    match *method {
        Method::GET | Method::HEAD => Scope::Read,
        Method::PUT => Scope::Admin,
        _ if path.contains("/simulate/") => Scope::Read,
        _ => Scope::Write,
    }
}

pub(super) async fn check(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let actor = match &state.keys {
        None => CompactString::const_new("local"),
        Some(_) if matches!(request.uri().path(), "/health" | "/health/live" | "/health/ready") => CompactString::const_new("anonymous"),
        Some(keys) => {
            let scope = scope(request.method(), request.uri().path());
            let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            match token.and_then(|token| keys.find(token, scope)) {
                Some((name, true)) => CompactString::from(name),
                Some((name, false)) => return Problem::new("forbidden", format!("key {name} lacks scope {scope:?}").to_lowercase()).into_response(),
                None => return Problem::new("unauthorized", "send Authorization: Bearer KEY with a key that is known here").into_response(),
            }
        }
    };
    request.extensions_mut().insert(Actor(actor));
    next.run(request).await
}

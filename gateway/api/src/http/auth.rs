//! Who may do what.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use compact_str::CompactString;

use crate::keys::{Keys, Scope};
use crate::problem::Problem;
use crate::state::ApiState;

/// The name under which a request's commands are booked.
#[derive(Clone)]
pub(crate) struct Actor(pub(crate) CompactString);

/// Those who look after the process have no key.
const OPEN: [&str; 3] = ["/health", "/health/live", "/health/ready"];

/// The scope that a route takes, by its template: what a path names may be called like any part of another route. None for a route of a method that
/// nobody has thought of here.
fn scope(method: &Method, template: &str) -> Option<Scope> {
    match *method {
        Method::GET | Method::HEAD => Some(Scope::Read),
        Method::PUT => Some(Scope::Admin),
        Method::POST if template.starts_with("/v1/programs/{program}/simulate/") => Some(Scope::Read),
        Method::POST => Some(Scope::Write),
        _ => None,
    }
}

/// Who asks, if the key is known here and has the scope of the route.
fn admit(keys: &Keys, request: &Request, template: &str) -> Result<Actor, Problem> {
    let scope = scope(request.method(), template).ok_or_else(|| Problem::new("forbidden", format!("no key may {} {template}", request.method())))?;
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match token.and_then(|token| keys.find(token, scope)) {
        Some((name, true)) => Ok(Actor(CompactString::from(name))),
        Some((name, false)) => Err(Problem::new("forbidden", format!("key {name} lacks scope {scope:?}").to_lowercase())),
        None => Err(Problem::new("unauthorized", "send Authorization: Bearer KEY with a key that is known here")),
    }
}

/// Lets requests pass that may; to those that need no key, the route's handler tells less where there is no [`Actor`].
pub(super) async fn check(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let template = request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    let admitted = match &state.keys {
        None => Ok(Actor(CompactString::const_new("local"))),
        Some(keys) => admit(keys, &request, &template),
    };
    match admitted {
        Ok(actor) => drop(request.extensions_mut().insert(actor)),
        Err(_) if OPEN.contains(&template.as_str()) => {}
        Err(problem) => return problem.into_response(),
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_told_by_the_route_not_by_what_its_path_names() {
        assert_eq!(scope(&Method::POST, "/v1/programs/{program}/simulate/purchases"), Some(Scope::Read));
        assert_eq!(scope(&Method::POST, "/v1/programs/{program}/proposals/{proposal_id}/approve"), Some(Scope::Write));
        assert_eq!(scope(&Method::PUT, "/v1/programs/{program}/simulate/purchases"), Some(Scope::Admin));
        assert_eq!(scope(&Method::PATCH, "/v1/programs/{program}/purchases"), None);
        assert_eq!(scope(&Method::DELETE, "/v1/programs"), None);
    }
}

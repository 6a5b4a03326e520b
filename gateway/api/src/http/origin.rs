//! From where a request comes: a web page of somebody else must not have a browser send one, to a service on loopback either.
//!
//! A browser sends the page's address as `Origin` (RFC 6454), and asks before it sends `application/json` to another origin, which nobody here answers. A
//! page whose name was made to point at this machine (DNS rebinding) shows by its `Host`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::{FieldError, Problem};

/// The addresses under which the service is known, beside loopback and its IP addresses.
#[derive(Debug, Clone, Default)]
pub struct PublicUrls(Arc<[Uri]>);

/// An address that is none.
#[derive(Debug, thiserror::Error)]
#[error("{url:?} is no address of a service, such as https://loyalty.example.org")]
pub struct PublicUrlError {
    /// What was given.
    pub url: String,
}

impl PublicUrls {
    /// Reads `urls`, each with scheme and host.
    ///
    /// # Errors
    /// [`PublicUrlError`]
    pub fn read(urls: &[String]) -> Result<Self, PublicUrlError> {
        let read = |url: &String| match url.parse::<Uri>() {
            Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() => Ok(uri),
            _ => Err(PublicUrlError { url: url.clone() }),
        };
        urls.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether it answers to this name. A name that others give out could be made to point here; an IP address can't.
    fn serves(&self, host: &Authority) -> bool {
        let name = host.host();
        let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        let lower = name.to_ascii_lowercase();
        is_address
            || lower == "localhost"
            || lower.ends_with(".localhost")
            || self.0.iter().any(|url| url.host().is_some_and(|host| host.eq_ignore_ascii_case(name)))
    }

    /// Whether a page at `origin` may ask a service that is asked as `host`.
    fn trusts(&self, origin: &Uri, host: Option<&Authority>) -> bool {
        let authority = origin.authority();
        let same_host = |url: &Uri| url.host().zip(origin.host()).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other));
        let is_public = |url: &Uri| url.scheme() == origin.scheme() && same_host(url) && port(url) == port(origin);
        authority.is_some() && (authority == host || self.0.iter().any(is_public))
    }
}

fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 })
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).map_or_else(String::new, |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn wrong(code: &str, name: &HeaderName, value: String, expected: &str) -> Problem {
    Problem::of_field(code, FieldError { pointer: name.to_string(), value, expected: expected.to_owned() })
}

fn require(urls: &PublicUrls, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let host = match (request.uri().authority(), headers.get(header::HOST)) {
        (Some(authority), _) => Some(authority.clone()),
        (None, None) => None,
        (None, Some(value)) => {
            let authority = value.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            Some(authority.ok_or_else(|| wrong("malformed", &header::HOST, text(headers, &header::HOST), "HOST or HOST:PORT"))?)
        }
    };
    if let Some(unknown) = host.as_ref().filter(|host| !urls.serves(host)) {
        let expected = "localhost, an IP address, or a host that the service was told of (--public-url)";
        return Err(wrong("host_not_served", &header::HOST, unknown.to_string(), expected));
    }
    if let Some(value) = headers.get(header::ORIGIN) {
        let origin = value.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        if !origin.is_some_and(|origin| urls.trusts(&origin, host.as_ref())) {
            let expected = "no Origin, the one of the service itself, or one that it was told of (--public-url)";
            return Err(wrong("origin_refused", &header::ORIGIN, text(headers, &header::ORIGIN), expected));
        }
    }
    require_json(request)
}

/// A form, which browsers send anywhere, is no body for this API.
fn require_json(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let has_body = headers.contains_key(header::TRANSFER_ENCODING) || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let content_type = text(headers, &header::CONTENT_TYPE);
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is_right = if content_type.is_empty() { !has_body } else { essence.eq_ignore_ascii_case("application/json") };
    if is_right || matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(wrong("unsupported_media_type", &header::CONTENT_TYPE, content_type, "application/json"))
}

pub(super) async fn check(State(urls): State<PublicUrls>, request: Request, next: Next) -> Response {
    match require(&urls, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use axum::body::Body;

    use super::*;

    fn told(method: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let urls = PublicUrls::read(&["https://Loyalty.example.org".into(), "http://till.example.org:8080".into()]).unwrap();
        let mut request = Request::builder().method(method).uri("/v1/programs");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        require(&urls, &request.body(Body::empty()).unwrap()).map_err(|problem| problem.code)
    }

    #[test]
    fn it_answers_to_loopback_to_addresses_and_to_what_it_was_told() {
        for host in ["localhost:8080", "a.localhost", "127.0.0.1", "[::1]:8080", "10.1.2.3:9090", "LOYALTY.example.org", "till.example.org:8080"] {
            assert_eq!(told("GET", &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(told("GET", &[]), Ok(()), "a probe of HTTP/1.0");
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "loyalty.example.org.evil.example"] {
            assert_eq!(told("GET", &[("host", host)]), Err("host_not_served".into()), "{host}");
        }
        assert_eq!(told("GET", &[("host", "a b")]), Err("malformed".into()));
    }

    #[test]
    fn pages_of_others_are_refused_whatever_they_ask() {
        let from = |origin: &str, host: &str| told("GET", &[("host", host), ("origin", origin)]);
        assert_eq!(from("http://localhost:8080", "localhost:8080"), Ok(()));
        assert_eq!(from("https://loyalty.example.org", "localhost:8080"), Ok(()), "behind a proxy");
        assert_eq!(from("https://loyalty.example.org:443", "localhost:8080"), Ok(()));
        let origins = ["http://evil.example", "null", "http://localhost:3000", "http://loyalty.example.org", "https://till.example.org:8080", "x"];
        for origin in origins {
            assert_eq!(from(origin, "localhost:8080"), Err("origin_refused".into()), "{origin}");
        }
    }

    #[test]
    fn bodies_are_json() {
        let of = |content_type: &str| told("POST", &[("content-length", "2"), ("content-type", content_type)]);
        assert_eq!((of("application/json"), of("Application/JSON; charset=utf-8")), (Ok(()), Ok(())));
        for other in ["text/plain", "application/x-www-form-urlencoded", "text/plain; application/json", "application/json2"] {
            assert_eq!(of(other), Err("unsupported_media_type".into()), "{other}");
        }
        assert_eq!(told("POST", &[("content-length", "2")]), Err("unsupported_media_type".into()));
        assert_eq!(told("POST", &[("transfer-encoding", "chunked")]), Err("unsupported_media_type".into()));
        assert_eq!((told("POST", &[("content-length", "0")]), told("POST", &[])), (Ok(()), Ok(())));
        assert_eq!(told("POST", &[("content-type", "text/plain")]), Err("unsupported_media_type".into()));
    }

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        assert_eq!(PublicUrls::read(&["loyalty.example.org".into()]).unwrap_err().url, "loyalty.example.org");
        assert!(PublicUrls::read(&["ftp://loyalty.example.org".into()]).is_err());
    }
}

//! One trace from the request over deciding to every read model, as an OTLP receiver gets it.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::AsyncBufReadExt;

use crate::support::{Up, loyalty, purchase, rulebook};

#[tokio::test]
async fn a_purchase_is_one_trace_from_the_request_to_the_read_models() {
    embedded_postgres::use_ring();
    let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
    let received = Arc::clone(&spans);
    let receive = axum::routing::post(async move |body: axum::body::Bytes| {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        let all = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        received.lock().unwrap().extend(all);
        ([("content-type", "application/x-protobuf")], ExportTraceServiceResponse::default().encode_to_vec())
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/v1/traces", receive)).await.unwrap() });
    let data = tempfile::tempdir().unwrap();
    let mut command = loyalty(&["up", "--listen", "127.0.0.1:0"], data.path());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    let up = Up::run(command).await;
    up.put("/v1/programs/shop/rulebook", rulebook()).await;
    let (_, booked) = up.post("/v1/programs/shop/purchases", purchase("P1", "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    up.read("/v1/programs/shop/accounts/m1", &booked).await;
    up.read("/v1/programs/shop/accounts/m1/aliases", &booked).await;
    up.read("/v1/programs/shop/accounts/m1/statement", &booked).await;
    let (status, _) = up.post("/v1/programs/shop/purchases", purchase("P1", "m1", "2010-01-01T00:00:00Z", "A", "11.00")).await;
    assert_eq!(status.as_u16(), 409);
    // What is left is sent before it ends.
    up.stop().await;
    // A process of projectors alone sends its traces as well.
    let mut projector = loyalty(&["serve", "projector", "balance"], data.path());
    let mut projector = projector.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(projector.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("projecting balance"));
    projector.kill().await.unwrap();
    let spans = std::mem::take(&mut *spans.lock().unwrap());
    let find = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name:?}"));
    let (request, decide) = (find("REST purchase"), find("decide and book"));
    assert!(request.parent_span_id.is_empty());
    assert_eq!((&decide.trace_id, &decide.parent_span_id), (&request.trace_id, &request.span_id));
    for model in ["alias", "audit", "balance", "statement", "tier"] {
        let project = find(&format!("project {model}"));
        assert_eq!((&project.trace_id, &project.parent_span_id), (&request.trace_id, &decide.span_id), "{model}");
    }
    let refused = spans.iter().find(|span| span.status.as_ref().is_some_and(|status| status.message.contains("used before")));
    assert!(refused.is_some(), "a refusal says why");
}

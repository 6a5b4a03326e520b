//! One trace a command (OpenTelemetry), from the request or message over deciding to the projections.
//!
//! Invariant: a trace's id, and those of its first spans, are hashes of the account, the kind and the id of the command. So every process
//! that has the command or its record can add to the trace, and nothing needs to be carried along or kept in the book.

use std::sync::OnceLock;
use std::time::SystemTime;

use ledger_core::id::{AccountKey, Id};
use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracer, SdkTracerProvider};

static TRACER: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();

/// Why traces can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The exporter.
    #[error("the exporter of traces can't be made: is OTEL_EXPORTER_OTLP_ENDPOINT a URL such as http://HOST:4318?")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Sends traces from here on, as OTLP over HTTP, to where `OTEL_EXPORTER_OTLP_ENDPOINT` says; does nothing where that is not set.
///
/// # Errors
/// [`TracesError`]
pub fn install(service: &'static str) -> Result<(), TracesError> {
    let is_set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    if !is_set("OTEL_EXPORTER_OTLP_ENDPOINT") && !is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        return Ok(());
    }
    let exporter = SpanExporter::builder().with_http().build()?;
    let resource = Resource::builder().with_service_name(service).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_id_generator(Ids).with_resource(resource).build();
    let tracer = provider.tracer("loyalty");
    // A second call changes nothing.
    let _ = TRACER.set((provider, tracer));
    Ok(())
}

/// Sends what is left.
pub fn flush() {
    if let Some((provider, _)) = TRACER.get() {
        let _ = provider.shutdown();
    }
}

/// Whether traces are sent.
#[must_use]
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

thread_local! {
    /// The id that the next span of this thread gets, instead of a random one.
    static NEXT: std::cell::Cell<Option<(TraceId, SpanId)>> = const { std::cell::Cell::new(None) };
}

/// Random ids, but for the spans whose ids are hashes.
#[derive(Debug)]
struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| opentelemetry_sdk::trace::RandomIdGenerator::default().new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| opentelemetry_sdk::trace::RandomIdGenerator::default().new_span_id(), |(_, span)| span)
    }
}

/// The trace of one command.
#[derive(Debug, Clone)]
pub struct Trace {
    trace: TraceId,
    request: SpanId,
    decide: SpanId,
    account: String,
    command: String,
}

/// What part of the way a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The request, or the message, that was accepted: the root.
    Request,
    /// One that was refused, or had been accepted before.
    Again,
    /// Deciding and booking, after a request.
    Decide,
    /// Deciding and booking what nobody asked for over the network: the root.
    DecideAlone,
    /// Into a read model.
    Project,
}

impl Trace {
    /// That of the command with this kind and id.
    #[must_use]
    pub fn of(key: &AccountKey, kind: &str, id: &Id) -> Self {
        let (account, command) = (key.to_string(), format!("{kind} {id}"));
        let hash = blake3::Hasher::new().update(b"trace").update(account.as_bytes()).update(&[0]).update(command.as_bytes()).finalize();
        let (trace, rest) = hash.as_bytes().split_first_chunk::<16>().expect("a hash has 32 bytes");
        let (request, rest) = rest.split_first_chunk::<8>().expect("16 are left");
        let decide = *rest.first_chunk::<8>().expect("8 are left");
        Self { trace: TraceId::from_bytes(*trace), request: SpanId::from_bytes(*request), decide: SpanId::from_bytes(decide), account, command }
    }

    /// Adds a span that began at `begin` and ends now; `failed` says why where it did not come to a good end.
    pub fn span(&self, part: Part, name: String, begin: SystemTime, failed: Option<String>) {
        let Some((_, tracer)) = TRACER.get() else { return };
        let (parent, own) = match part {
            Part::Request => (None, Some(self.request)),
            Part::Again => (Some(self.request), None),
            Part::Decide => (Some(self.request), Some(self.decide)),
            Part::DecideAlone => (None, Some(self.decide)),
            Part::Project => (Some(self.decide), None),
        };
        NEXT.set(own.map(|own| (self.trace, own)));
        let attributes = vec![KeyValue::new("loyalty.account", self.account.clone()), KeyValue::new("loyalty.command", self.command.clone())];
        let kind = if matches!(part, Part::Request | Part::Again) { SpanKind::Server } else { SpanKind::Internal };
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_start_time(begin).with_attributes(attributes);
        let context = Context::new();
        let context = match parent {
            Some(parent) => context.with_remote_span_context(SpanContext::new(self.trace, parent, TraceFlags::SAMPLED, true, TraceState::default())),
            None => context,
        };
        let mut span = tracer.build_with_context(builder, &context);
        NEXT.set(None);
        if let Some(why) = failed {
            span.set_status(Status::error(why));
        }
        span.end();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_command_knows_its_trace() {
        let key = |account: &str| AccountKey { program: Id::parse("shop").unwrap(), account: Id::parse(account).unwrap() };
        let (one, again) = (Trace::of(&key("m1"), "purchase", &Id::parse("P1").unwrap()), Trace::of(&key("m1"), "purchase", &Id::parse("P1").unwrap()));
        assert_eq!((one.trace, one.request, one.decide), (again.trace, again.request, again.decide));
        let other = Trace::of(&key("m2"), "purchase", &Id::parse("P1").unwrap());
        assert_ne!(one.trace, other.trace);
        assert_ne!(one.request, one.decide);
    }
}

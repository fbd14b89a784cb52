//! Traces across Kafka: the context of OpenTelemetry travels in a record's headers, by the propagator that the program has
//! set (`opentelemetry::global`), mostly W3C's `traceparent`. Without one nothing is added and nothing is read.

use crate::reference::{Headers, header};
use bytes::Bytes;
use opentelemetry::{
    Context, KeyValue, global,
    propagation::{Extractor, Injector},
    trace::{SpanKind, TraceContextExt, Tracer},
};

struct Into<'a>(&'a mut Headers);

impl Injector for Into<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.retain(|(name, _)| !name.eq_ignore_ascii_case(key));
        self.0.push((key.to_owned(), Some(Bytes::from(value))));
    }
}

struct From<'a>(&'a Headers);

impl Extractor for From<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        header(self.0, key).and_then(|value| std::str::from_utf8(value).ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Whether the program has set a propagator; asked when a client is opened.
pub fn is_on() -> bool {
    global::get_text_map_propagator(|propagator| propagator.fields().next().is_some())
}

/// A span of work on one record of `topic`, below the current context or the one given.
pub fn span(name: &'static str, kind: SpanKind, topic: &str, parent: &Context) -> Context {
    let tracer = global::tracer("kas3");
    let attributes = [KeyValue::new("messaging.system", "kafka"), KeyValue::new("messaging.destination.name", topic.to_owned())];
    let span = tracer.span_builder(name).with_kind(kind).with_attributes(attributes).start_with_context(&tracer, parent);
    parent.with_span(span)
}

/// Adds the context to a record's headers.
pub fn inject(context: &Context, headers: &mut Headers) {
    global::get_text_map_propagator(|propagator| propagator.inject_context(context, &mut Into(headers)));
}

/// The context that a record's headers carry, else the current one.
pub fn extract(headers: &Headers) -> Context {
    global::get_text_map_propagator(|propagator| propagator.extract(&From(headers)))
}

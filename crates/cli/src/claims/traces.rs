//! Traces: with an OTLP endpoint in the environment, the context travels in records' headers (W3C `traceparent`) and spans go to
//! a collector, as JSON over HTTP. That form of OTLP needs nothing but an HTTP client, which is here for the store anyway.

use anyhow::Context;
use aws_smithy_http_client::{
    Connector,
    tls::{self, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    client::http::{HttpConnector, HttpConnectorSettings},
    http::Request,
};
use aws_smithy_types::body::SdkBody;
use kas3_sink::{Error, Kind};
use opentelemetry::{
    Array, KeyValue, Value as Attribute, global,
    trace::{SpanId, SpanKind, Status},
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::runtime::Handle;

/// How long the collector may take for a batch, and how long the end of the command waits for the last one.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// Traces of this process; flushed when dropped.
pub(super) struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Turns traces on if the environment names a collector. Must be called inside the runtime.
    ///
    /// # Errors
    /// `Config` for an endpoint that is none.
    pub(super) fn install() -> anyhow::Result<Traces> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let Some(endpoint) = endpoint(&variable) else { return Ok(Traces(None)) };
        if variable("OTEL_SDK_DISABLED").is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
            return Ok(Traces(None));
        }
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(Error::new(Kind::Config, format!("the collector's endpoint is `{endpoint}`"))
                .hint("set `OTEL_EXPORTER_OTLP_ENDPOINT` to a URL, as `http://localhost:4318`")
                .into());
        }
        let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(protocol) = protocol.filter(|protocol| protocol != "http/json") {
            tracing::warn!(protocol, "spans are sent as `http/json`, the one form of OTLP that kas3 speaks");
        }
        let headers = variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS").or_else(|| variable("OTEL_EXPORTER_OTLP_HEADERS")).unwrap_or_default();
        let settings = HttpConnectorSettings::builder().connect_timeout(EXPORT_MAX).read_timeout(EXPORT_MAX).build();
        let connector = Connector::builder().connector_settings(settings).tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build();
        let mut resource = Resource::builder();
        if variable("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("kas3");
        }
        let resource = resource.build();
        let way = Way { connector, endpoint, headers: pairs(&headers) };
        let exporter = Exporter { way: Arc::new(way), resource: resource.clone(), runtime: Handle::current() };
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_tracer_provider(provider.clone());
        Ok(Traces(Some(provider)))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let Some(provider) = self.0.take() else { return };
        if let Err(error) = provider.shutdown_with_timeout(EXPORT_MAX) {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

/// The traces' own endpoint is taken as it is; the general one is the beginning of theirs.
fn endpoint(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let general = || variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|endpoint| format!("{}/v1/traces", endpoint.trim().trim_end_matches('/')));
    variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(general)
}

/// `name=value` with commas between, values percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.trim().to_lowercase(), decoded(value.trim()))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How the collector is reached.
#[derive(Debug)]
struct Way {
    connector: Connector,
    endpoint: String,
    headers: Vec<(String, String)>,
}

impl Way {
    async fn post(&self, body: String) -> anyhow::Result<()> {
        let mut request = Request::new(SdkBody::from(body));
        request.set_method("POST").context("make a request")?;
        request.set_uri(self.endpoint.as_str()).context("make a request")?;
        let headers = request.headers_mut();
        headers.insert("content-type", "application/json");
        for (name, value) in &self.headers {
            if headers.try_insert(name.clone(), value.clone()).is_err() {
                anyhow::bail!("`OTEL_EXPORTER_OTLP_HEADERS` holds what no header can: `{name}`");
            }
        }
        let answer = tokio::time::timeout(EXPORT_MAX, self.connector.call(request)).await.context("the collector did not answer")?;
        let answer = answer.map_err(|error| anyhow::anyhow!("{error}"))?;
        anyhow::ensure!(answer.status().is_success(), "the collector answered {}", answer.status().as_u16());
        Ok(())
    }
}

/// Sends batches; called from a thread of the SDK.
#[derive(Debug)]
struct Exporter {
    way: Arc<Way>,
    resource: Resource,
    runtime: Handle,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (way, body) = (Arc::clone(&self.way), request(&self.resource, &batch).to_string());
        let sent = self.runtime.spawn(async move { way.post(body).await }).await;
        let failed = |why: String| {
            tracing::debug!(why, "spans were not sent");
            Err(OTelSdkError::InternalFailure(why))
        };
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => failed(format!("{error:#}")),
            Err(error) => failed(error.to_string()),
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.clone();
    }
}

/// `ExportTraceServiceRequest` in OTLP's JSON: ids in hexadecimal, 64-bit numbers as text.
fn request(resource: &Resource, batch: &[SpanData]) -> Value {
    let resource: Vec<Value> = resource.iter().map(|(key, value)| attribute(key.as_str(), value)).collect();
    let spans: Vec<Value> = batch.iter().map(span).collect();
    json!({"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"scope": {"name": "kas3"}, "spans": spans}]}]})
}

fn span(span: &SpanData) -> Value {
    let kind = match span.span_kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    };
    let status = match &span.status {
        Status::Unset => json!({}),
        Status::Ok => json!({"code": 1}),
        Status::Error { description } => json!({"code": 2, "message": description}),
    };
    let attributes: Vec<Value> = span.attributes.iter().map(|KeyValue { key, value, .. }| attribute(key.as_str(), value)).collect();
    let mut entry = json!({
        "traceId": span.span_context.trace_id().to_string(),
        "spanId": span.span_context.span_id().to_string(),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": nanos(span.start_time),
        "endTimeUnixNano": nanos(span.end_time),
        "attributes": attributes,
        "status": status,
    });
    if span.parent_span_id != SpanId::INVALID {
        entry["parentSpanId"] = span.parent_span_id.to_string().into();
    }
    entry
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

fn attribute(key: &str, value: &Attribute) -> Value {
    let value = match value {
        Attribute::Bool(value) => json!({"boolValue": value}),
        Attribute::I64(value) => json!({"intValue": value.to_string()}),
        Attribute::F64(value) => json!({"doubleValue": value}),
        Attribute::String(value) => json!({"stringValue": value.as_str()}),
        Attribute::Array(Array::String(values)) => {
            let values: Vec<Value> = values.iter().map(|value| json!({"stringValue": value.as_str()})).collect();
            json!({"arrayValue": {"values": values}})
        }
        other => json!({"stringValue": other.to_string()}),
    };
    json!({"key": key, "value": value})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_of_traces_is_taken_as_it_is_and_the_general_one_is_continued() {
        let with = |set: &'static [(&'static str, &'static str)]| {
            endpoint(&move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/")]).as_deref(), Some("http://c:4318/v1/traces"));
        let both = &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/x"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")];
        assert_eq!(with(both).as_deref(), Some("http://t/x"));
    }

    #[test]
    fn headers_of_the_collector_are_percent_decoded() {
        let expected = [("authorization".to_owned(), "Basic a=b c".to_owned()), ("x".to_owned(), "%zz".to_owned())];
        assert_eq!(pairs("Authorization=Basic%20a=b c, x=%zz"), expected);
    }
}

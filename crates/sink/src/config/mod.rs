//! The configuration: one YAML file, one tree. What the user wrote is [`Settings`]; what was
//! validated is [`Pipeline`](crate::plan::Pipeline).
//!
//! The doc comment of a field of [`Settings`] is its manual text: the reference page and the JSON Schema are generated from it.
//! Errors tell every mistake of a file at once, each with its line, the whole path of the setting and what was probably meant;
//! secrets appear in none of them.
//!
//! ```
//! let text = "
//! name: orders
//! source: {topics: [orders], kafka: {bootstrap.servers: 'localhost:9092', sasl.username: '${KAFKA_USER:-nobody}'}}
//! sink: {url: 's3://lake/raw', roll: {age: 1m}}
//! ";
//! let loaded = kas3_sink::config::load(text, &|name| std::env::var(name).ok())?;
//! let pipeline = loaded.pipeline()?;
//! assert_eq!(pipeline.default.roll.age.as_secs(), 60);
//! # Ok::<(), kas3_sink::Error>(())
//! ```

mod check;
mod environment;
mod homes;
mod kafka;
mod lines;
mod load;
mod mistakes;
mod ordered;
mod place;
mod redact;
mod reference;
mod scalars;
mod schema;
mod settings;
mod substitute;
mod validate;

pub use environment::{ENVIRONMENT, EnvironmentName, Family, KAFKA_PROPERTIES, from_environment, kafka_property};
pub use load::{Loaded, is_meant_as, load, load_as};
pub use ordered::Ordered;
pub use redact::Redactor;
pub use reference::{reference_markdown, schema_json, settings_markdown};
pub use settings::{LedgerSettings, Settings, SourceSettings};

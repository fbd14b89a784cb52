//! The generated page of the claim check: settings, environment, formats and counters, from the code that reads them.

use super::{counters::EVENTS, environment::NAMES, settings::ClaimsSettings};
use kas3_claimcheck::FORMATS;
use kas3_sink::config;

const HEAD: &str = "<!-- Generated from the settings, formats and counters themselves; do not edit. -->

# Settings of the claim check

One YAML file serves `kas3 produce`, `kas3 consume` and `kas3 payloads`; [claim-check.md](claim-check.md) is the manual. Unknown keys are
refused, but for top-level keys that begin with `x-`, which are yours, for YAML anchors. `${NAME}` and `${NAME:-default}` take values from
the environment. The same trees are `ProducerSettings` and `ConsumerSettings`
of the crate `kas3-claimcheck`.
";

const ENVIRONMENT: &str = "
## Environment

Without a file the settings come from the environment, under the names of kaf-s3-connector 2.0 and with its format of references.
Other AWS variables, as `AWS_ACCESS_KEY_ID` and `AWS_PROFILE`, are read by the default credential chain.

| name | default | meaning |
| --- | --- | --- |
";

const FORMATS_HEAD: &str = "
## Formats of references

Those marked by a header are accepted by default, since no payload of a user can be mistaken for one; the others when `accept` names
them, or when they are what `format` writes.

| name | marked | written | from |
| --- | --- | --- | --- |
";

const COUNTERS: &str = "
## Counters

`/metrics` of `produce` and `consume`, as Prometheus text. Where a payload is concerned there is a counter `<name>_bytes` beside.

| name | meaning and labels |
| --- | --- |
";

/// The page.
pub(crate) fn reference_page() -> String {
    let mut page = String::from(HEAD);
    page.push_str(&config::settings_markdown::<ClaimsSettings>());
    page.push_str(ENVIRONMENT);
    for row in NAMES {
        let default = if row.default.is_empty() { String::new() } else { format!("`{}`", row.default) };
        page.push_str(&format!("| `{}` | {default} | {} |\n", row.name, row.meaning));
    }
    page.push_str(FORMATS_HEAD);
    for format in FORMATS {
        let yes = |is: bool| if is { "yes" } else { "" };
        page.push_str(&format!("| `{}` | {} | {} | {} |\n", format.name(), yes(format.marked()), yes(format.writes()), format.about()));
    }
    page.push_str(COUNTERS);
    for (name, meaning) in EVENTS {
        page.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    page
}

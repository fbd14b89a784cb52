//! Reads a configuration, and from then on keeps its secrets out of everything that is printed.

use crate::{
    claims::settings::ClaimsSettings,
    file::{self, Of},
    readable, redact,
};
use kas3_sink::{
    budget::record_bytes_max,
    config::{self, Settings},
    limits,
    plan::Pipeline,
    stops,
    units::Bytes,
};
use std::{path::Path, sync::Arc};

/// The configuration of a file, or of environment variables where none is named.
///
/// # Errors
/// As [`from_file`] and [`from_environment`].
pub(crate) fn of(file: Option<&Path>) -> anyhow::Result<Arc<Pipeline>> {
    file.map_or_else(from_environment, from_file)
}

/// The configuration of a file.
///
/// # Errors
/// `Config` for a file that cannot be read, or says what cannot be.
pub(crate) fn from_file(file: &Path) -> anyhow::Result<Arc<Pipeline>> {
    let shown = file.display();
    stops::name_configuration(Some(file));
    let text = file::text_of(file, "`kas3 demo` works without one; the README has one to begin with")?;
    let named = |error: anyhow::Error| error.context(format!("configuration `{shown}`"));
    match config::load(&text, &environment) {
        Ok(loaded) => take(loaded).map_err(named),
        Err(_) if file::is_rather::<ClaimsSettings, Settings>(&text) => Err(Of::Claims.told(file)),
        Err(error) => Err(named(error.into())),
    }
}

/// What is good to know about a pipeline on this machine: a `memory` that the machine does not have.
pub(crate) fn warnings(pipeline: &Pipeline) -> Vec<String> {
    let lower = limits::of_this_process().into_iter().filter(|limit| limit.bytes < pipeline.memory_bytes).min_by_key(|limit| limit.bytes);
    let told = |limit: limits::Limit| {
        let (memory, has) = (readable::bytes(pipeline.memory_bytes), readable::bytes(limit.bytes));
        let fits = Bytes((limit.bytes / 4 * 3) >> 20 << 20);
        format!("`memory` is {memory}, and {} has {has}: the kernel may end the process before it holds back; set `memory: {fits}` or less", limit.of)
    };
    lower.map(told).into_iter().collect()
}

/// The configuration of environment variables.
///
/// # Errors
/// `Config` for variables that are missing, or say what cannot be.
pub(crate) fn from_environment() -> anyhow::Result<Arc<Pipeline>> {
    stops::name_configuration(None);
    take(config::from_environment(&environment)?)
}

fn take(loaded: config::Loaded) -> anyhow::Result<Arc<Pipeline>> {
    let pipeline = loaded.pipeline()?;
    redact::install(loaded.redactor);
    for note in &loaded.notes {
        tracing::warn!("{note}");
    }
    Ok(Arc::new(pipeline))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// That a topic takes records for which `memory` has no room; `largest` is what the broker says of it, in bytes.
pub(crate) fn too_large(pipeline: &Pipeline, topic: &str, largest: Option<u64>) -> Option<String> {
    let (largest, room) = (largest?, record_bytes_max(pipeline.memory_bytes));
    let (memory, most) = (readable::bytes(pipeline.memory_bytes), readable::bytes(room));
    let takes = readable::bytes(largest);
    (largest > room).then(|| {
        format!(
            "topic `{topic}` takes records of {takes} (`max.message.bytes`); with `memory` of {memory} one of more than {most} stops its partition"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::PathBuf};

    /// What a fragment is merged into.
    const LEAST: &str = "{name: orders, source: {topics: [orders], kafka: {bootstrap.servers: 'localhost:9092'}}, sink: {url: 's3://lake/raw'}}";
    /// The line before a block that is part of a pipeline's file, from its top.
    const FRAGMENT: &str = "<!-- fragment -->";

    /// The pages of the manual.
    fn pages() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("python/README.md")];
        let mut folders = vec![root.join("docs")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "md") {
                    pages.push(path);
                }
            }
        }
        pages
    }

    /// Every block in YAML of a page: the number of its line, its text, and whether it is a fragment.
    fn blocks(page: &str) -> Vec<(usize, String, bool)> {
        let lines: Vec<&str> = page.lines().collect();
        let begins = |at: &usize| lines[*at].trim_start().starts_with("```yaml");
        let block = |at: usize| {
            let indent = lines[at].len() - lines[at].trim_start().len();
            let inside = lines[at + 1..].iter().take_while(|line| !line.trim_start().starts_with("```"));
            let text: Vec<&str> = inside.map(|line| line.get(indent..).unwrap_or_default()).collect();
            (at + 2, text.join("\n"), at > 0 && lines[at - 1].trim() == FRAGMENT)
        };
        (0..lines.len()).filter(begins).map(block).collect()
    }

    fn merge(into: &mut serde_json::Value, more: serde_json::Value) {
        match (into, more) {
            (serde_json::Value::Object(into), serde_json::Value::Object(more)) => {
                more.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(serde_json::Value::Null), value));
            }
            (into, more) => *into = more,
        }
    }

    /// A block in `yaml` is a configuration that kas3 takes as it stands, or part of a pipeline's after the line `<!-- fragment -->`;
    /// YAML of other programs stands in blocks of `yml`.
    #[test]
    fn every_configuration_in_the_manual_is_one() {
        let env = |_: &str| Some("a-value-of-the-environment".to_owned());
        let (mut found, mut wrong) = (0, Vec::new());
        for page in pages() {
            let text = fs::read_to_string(&page).expect("a page");
            for (line, mut block, fragment) in blocks(&text) {
                found += 1;
                if fragment {
                    let read = |text: &str| serde_yaml_ng::from_str::<serde_json::Value>(text).expect("YAML");
                    let mut whole = read(LEAST);
                    merge(&mut whole, read(&block));
                    block = whole.to_string();
                }
                let read = if config::is_meant_as::<ClaimsSettings>(&block) {
                    config::load_as::<ClaimsSettings>(&block, &env, "", &[]).map(drop)
                } else {
                    config::load(&block, &env).and_then(|loaded| loaded.pipeline()).map(drop)
                };
                if let Err(error) = read {
                    wrong.push(format!("{}:{line}: {} ({:?})", page.display(), error.chain(), error.way_out()));
                }
            }
        }
        assert!(found >= 4 && wrong.is_empty(), "{found} blocks: {wrong:#?}");
    }

    #[test]
    fn more_memory_than_the_machine_has_is_told_with_a_setting_that_fits() {
        let warnings = |memory: &str| {
            let text = LEAST.replace("{name: orders", &format!("{{memory: {memory}, name: orders"));
            warnings(&config::load(&text, &|_| None).and_then(|loaded| loaded.pipeline()).expect("a pipeline"))
        };
        assert!(warnings("80MiB").is_empty());
        let told = warnings("900TiB");
        let fits = told[0].split("set `memory: ").nth(1).and_then(|rest| rest.split('`').next()).expect("a setting");
        assert!(told.len() == 1 && warnings(fits).is_empty(), "{told:?}");
    }

    #[test]
    fn too_large_records_are_told_where_the_broker_says_how_large_they_may_be() {
        let pipeline = config::load(LEAST, &|_| None).and_then(|loaded| loaded.pipeline()).expect("a pipeline");
        assert_eq!((too_large(&pipeline, "orders", None), too_large(&pipeline, "orders", Some(1 << 20))), (None, None));
        let told = too_large(&pipeline, "orders", Some(100 << 20)).expect("a warning");
        assert!(told.contains("`orders`") && told.contains("100.0 MiB") && told.contains("256.0 MiB"), "{told}");
    }

    #[test]
    fn a_file_of_the_other_kind_is_told_from_one_with_mistakes() {
        let claims = "claim_check: {url: s3://payloads}\nkafka: {bootstrap.servers: b}\n";
        for (text, of_claims, of_pipeline) in [
            (LEAST, false, true),
            (claims, true, false),
            ("\u{feff}claim_check: {url: ${UNSET}}\nkafka:\n", true, false),
            ("name: orders\nkafka: {bootstrap.servers: b}\n", false, false),
            ("[1, 2]", false, false),
            ("", false, false),
        ] {
            let told = (file::is_rather::<ClaimsSettings, Settings>(text), file::is_rather::<Settings, ClaimsSettings>(text));
            assert_eq!(told, (of_claims, of_pipeline), "{text}");
        }
    }
}

//! The reference page and the schema are made from the settings, and the files of the project are what is made.
// A test ends where it cannot go on; so do its helpers.
#![allow(clippy::unwrap_used)]

use kas3_sink::config::{reference_markdown, schema_json};
use std::path::Path;

/// Compares with the file of the project, or writes it when `KAS3_WRITE_DOCS` is set.
fn is_current(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("KAS3_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "docs/{name} is out of date: run `KAS3_WRITE_DOCS=1 cargo test -p kas3-sink --test config_reference`");
}

#[test]
fn the_reference_page_is_up_to_date() {
    is_current("reference.md", &reference_markdown());
}

#[test]
fn the_schema_is_up_to_date() {
    is_current("schema.json", &schema_json());
}

#[test]
fn every_key_of_the_reference_page_has_a_type_and_a_meaning() {
    let page = reference_markdown();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 80, "{}", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert!(cells.len() >= 4 && cells[1].trim() != "any" && !cells[1].trim().is_empty(), "{row}");
        assert!(cells[3].trim().len() > 3 || cells.len() == 4, "{row}");
    }
}

//! What fuzzing kept (`fuzz/corpus`, and everything that ever found a bug) on stable Rust, without a fuzzer.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets take it from a library")]
mod fuzzed;

use std::{fs, path::Path};

#[global_allocator]
static ALLOCATOR: fuzzed::memory::Counted = fuzzed::memory::Counted;

fn corpus(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| body(&bytes)).is_err() {
            panic!("`{target}` fails on {}", path.display());
        }
        files += 1;
    }
    assert!(files > 10, "{files} files in {}", folder.display());
}

macro_rules! corpora {
    ($($target:ident: $body:path,)*) => {$(
        #[test]
        fn $target() {
            corpus(stringify!($target), $body);
        }
    )*};
}

corpora! {
    block_index: fuzzed::blocks::block_index,
    configuration: fuzzed::configuration::configuration,
    damaged_file: fuzzed::blocks::damaged_file,
    envelope: fuzzed::values::envelope,
    environment: fuzzed::configuration::environment,
    file: fuzzed::blocks::file,
    head: fuzzed::ledger::head,
    lines: fuzzed::values::lines,
    path_template: fuzzed::paths::path_template,
    segment: fuzzed::ledger::segment,
    start_record: fuzzed::ledger::start_record,
    value_path: fuzzed::values::value_path,
}

#[test]
fn memory_beyond_the_bound_is_noticed() {
    fuzzed::memory::bounded(1 << 20, || vec![1_u8; 1 << 19]);
    assert!(std::panic::catch_unwind(|| fuzzed::memory::bounded(1 << 20, || vec![1_u8; 2 << 20])).is_err());
}

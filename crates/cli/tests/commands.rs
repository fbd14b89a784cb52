//! Whole commands as a person types them: what they print and how they end. What differs from run to run is replaced.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Runs `kas3` in `folder` without anything of our own environment but the path.
fn kas3(folder: &Path, words: &[&str]) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Command::new(env!("CARGO_BIN_EXE_kas3"))
        .args(words)
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        // nobody outside of an instance is asked for credentials
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .output()
        .expect("kas3 runs")
}

fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("exit: {}\n--- stdout\n{}--- stderr\n{}", output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Runs a command that reads `orders.yaml` with this text.
fn with(configuration: &str, words: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("orders.yaml"), configuration).expect("written");
    shown(&kas3(folder.path(), words)).replace(folder.path().to_str().expect("text"), "FOLDER")
}

const GOOD: &str = "\
name: orders
source:
  topics: [orders]
  kafka: {bootstrap.servers: \"127.0.0.1:1\"}
sink:
  url: file:///tmp/kas3-no-such-folder-here/lake
http: \"off\"
";

#[test]
fn a_person_without_words_gets_the_commands_and_examples() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(shown(&kas3(folder.path(), &[])));
}

#[test]
fn a_command_that_does_not_exist_names_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(shown(&kas3(folder.path(), &["verfy", "orders.yaml"])));
}

#[test]
fn a_configuration_that_is_not_there_says_where_to_begin() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(shown(&kas3(folder.path(), &["run", "nothing.yaml", "--log-format", "text"])));
}

#[test]
fn running_without_a_file_or_an_environment_names_the_variables() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(shown(&kas3(folder.path(), &["--log-format", "text", "run"])));
}

#[test]
fn an_unknown_setting_names_the_nearest() {
    insta::assert_snapshot!(with(&GOOD.replace("url:", "format: {compresion: gzip}\n  url:"), &["check", "orders.yaml"]));
}

#[test]
fn a_template_that_gives_two_partitions_one_name_is_refused() {
    insta::assert_snapshot!(with(&GOOD.replace("url:", "path: \"{topic}/{offset}\"\n  url:"), &["check", "orders.yaml"]));
}

#[test]
fn offsets_that_cannot_be_are_wrong_usage() {
    insta::assert_snapshot!(with(GOOD, &["cat", "orders.yaml", "--topic", "orders", "--partition", "0", "--from", "7", "--to", "7"]));
}

#[test]
fn a_log_level_that_is_none_is_wrong_usage() {
    insta::assert_snapshot!(with(GOOD, &["ledger", "show", "orders.yaml", "--log-level", "kas3=loud"]));
}

#[test]
fn more_orders_than_the_embedded_broker_keeps_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(shown(&kas3(folder.path(), &["demo", "--records", "1000000"])));
}

#[test]
fn a_folder_named_demo_that_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("demo")).unwrap();
    std::fs::write(folder.path().join("demo/thesis.txt"), "precious").unwrap();
    insta::assert_snapshot!(shown(&kas3(folder.path(), &["demo"])));
    assert!(folder.path().join("demo/thesis.txt").exists());
}

const CLAIMS: &str = "\
claim_check: {url: s3://payloads/scans}
kafka: {bootstrap.servers: \"127.0.0.1:1\"}
";

#[test]
fn a_configuration_of_the_claim_check_is_told_from_one_of_a_pipeline_with_mistakes_and_the_other_way_round() {
    for words in [&["check", "orders.yaml"][..], &["run", "orders.yaml"], &["ledger", "show", "orders.yaml"]] {
        let said = with(CLAIMS, &[words, &["--log-format", "text"]].concat());
        assert!(
            said.contains("exit: 2") && said.contains("error: the configuration `orders.yaml` is one of the claim check, not of a pipeline\n"),
            "{said}"
        );
        assert!(said.contains("hint: `kas3 produce orders.yaml`"), "{said}");
    }
    let said = with(GOOD, &["payloads", "ls", "orders.yaml"]);
    assert!(
        said.contains("exit: 2") && said.contains("error: the configuration `orders.yaml` is one of a pipeline, not of the claim check\n"),
        "{said}"
    );
    assert!(said.contains("hint: `kas3 run orders.yaml`"), "{said}");
}

#[test]
fn several_mistakes_are_told_at_once() {
    insta::assert_snapshot!(with(&GOOD.replace("sink:", "kafk: {}\nmemory: 1MiB\nsink:\n  flavour: vanilla"), &["check", "orders.yaml"]));
}

#[test]
fn missing_aws_credentials_are_one_line_and_the_way_out() {
    for (text, words) in [
        (CLAIMS.replace("scans}", "scans, storage: {region: eu-central-1}}"), &["payloads", "ls", "orders.yaml"][..]),
        (
            GOOD.replace("file:///tmp/kas3-no-such-folder-here/lake", "s3://lake/raw\n  storage: {region: eu-central-1}"),
            &["ledger", "show", "orders.yaml"],
        ),
    ] {
        let said = with(&text, words);
        let lines: Vec<&str> = said.split("--- stderr\n").nth(1).unwrap().lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(
            lines[0].starts_with("error: ") && lines[0].contains(": no AWS credentials: there are none in the settings, the environment"),
            "{said}"
        );
        assert!(lines[1].starts_with("hint: set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`"), "{said}");
    }
}

#[test]
fn secrets_of_the_configuration_are_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let text = GOOD.replace("\"127.0.0.1:1\"", "\"127.0.0.1:1\", sasl.password: \"hunter-42-secret\", sasl.mechanism: NONSENSE-hunter-42-secret");
    std::fs::write(folder.path().join("orders.yaml"), text).unwrap();
    for words in [&["check", "orders.yaml"][..], &["--log-level", "debug", "verify", "orders.yaml"]] {
        let output = kas3(folder.path(), words);
        assert_ne!(output.status.code(), Some(0));
        assert!(!shown(&output).contains("hunter-42-secret"), "{}", shown(&output));
    }
}

#[test]
fn an_unreachable_broker_ends_the_check_with_one_and_says_what_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    std::fs::create_dir(&lake).unwrap();
    std::fs::write(folder.path().join("orders.yaml"), GOOD.replace("/tmp/kas3-no-such-folder-here/lake", lake.to_str().unwrap())).unwrap();
    let output = kas3(folder.path(), &["check", "orders.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("✗ no broker of `bootstrap.servers` answers"), "{text}");
    assert!(text.contains("✓ sink `file://"), "the rest is checked all the same: {text}");
}

#[test]
fn a_ledger_of_a_newer_kas3_is_refused_by_every_command_with_every_option_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let heads = lake.join("_kas3/orders/ledger/orders/00000");
    std::fs::create_dir_all(&heads).unwrap();
    std::fs::write(folder.path().join("orders.yaml"), GOOD.replace("/tmp/kas3-no-such-folder-here/lake", lake.to_str().unwrap())).unwrap();
    // as another kas3 may write it: nothing but the version is where this one expects it
    let head = "{\"version\": 2, \"topic\": [\"orders\"], \"next\": {\"orders\": 8}, \"closed\": null}";
    std::fs::write(heads.join("head.3.json"), head).unwrap();
    std::fs::write(heads.join(".kas3-cell.head.json"), "").unwrap();
    let accept = ["ledger", "accept", "orders.yaml", "--topic", "orders", "--partition", "0"];
    let commands = [
        accept.to_vec(),
        [&accept[..], &["--next", "8"]].concat(),
        [&accept[..], &["--next", "0"]].concat(),
        vec!["ledger", "show", "orders.yaml"],
        vec!["ledger", "show", "orders.yaml", "--json"],
        vec!["cat", "orders.yaml", "--topic", "orders", "--partition", "0", "--from", "0"],
    ];
    for words in commands {
        let output = kas3(folder.path(), &words);
        assert_eq!(output.status.code(), Some(3), "{words:?}: {}", shown(&output));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        for expected in ["head.json", "it has version 2, and this kas3 knows versions up to 1; a newer kas3 wrote it", "hint: run the newer kas3"] {
            assert!(told.contains(expected), "{words:?}: `{expected}` is not in\n{told}");
        }
        assert!(!told.contains("--next"), "{words:?}: {told}");
        let left = std::fs::read_dir(&heads).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
        assert_eq!(left, [".kas3-cell.head.json".into(), "head.3.json".into()].into(), "{words:?}");
        assert_eq!(std::fs::read_to_string(heads.join("head.3.json")).unwrap(), head, "{words:?}");
    }
}

#[test]
fn the_demo_ends_well_and_its_files_can_be_read_back_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let output = kas3(folder.path(), &["demo", "--records", "6000"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in [
        "got SIGKILL",
        "every compared record is in exactly one file: 6,000 records of 3 partitions",
        "nothing lost and nothing doubled",
        "\"order\":3001",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in\n{text}");
    }
    // The broker is gone; the store alone is enough for these.
    let cat = |from: &str, to: &str| {
        kas3(folder.path(), &["cat", "demo/orders.yaml", "--topic", "orders", "--partition", "2", "--from", from, "--to", to, "--offsets"])
    };
    let lines = String::from_utf8(cat("10", "13").stdout).unwrap();
    let orders: Vec<&str> = lines.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(orders, ["10\t{\"order\":32", "11\t{\"order\":35", "12\t{\"order\":38"]);
    let beyond = cat("5000", "5002");
    assert_eq!(beyond.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&beyond.stderr).contains("offsets 5000 to 5001: not committed yet"), "{}", shown(&beyond));
    // A reader that goes away ends a command quietly.
    let mut child = Command::new(env!("CARGO_BIN_EXE_kas3"))
        .args(["cat", "demo/orders.yaml", "--topic", "orders", "--partition", "0", "--from", "0", "--to", "2000"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{}", shown(&output));
    let ledger = kas3(folder.path(), &["ledger", "show", "demo/orders.yaml"]);
    let ledger = String::from_utf8(ledger.stdout).unwrap();
    let orders_0: Vec<&str> = ledger.lines().find(|line| line.starts_with("orders-0")).unwrap().split_whitespace().collect();
    assert_eq!((orders_0[1], orders_0[2], orders_0[4]), ("0", "2,000", "2,000"), "{ledger}");
}

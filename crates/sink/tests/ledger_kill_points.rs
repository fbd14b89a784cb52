//! The list of kill points is the truth: tests that walk it miss no step.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path};

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(text.split("kill_point(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
}

#[test]
fn the_list_of_kill_points_names_those_in_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = BTreeSet::new();
    collect(&root.join("src"), &mut used);
    let listed: BTreeSet<String> = fs::read_to_string(root.join("../../tests/kill_points.txt")).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(listed, used);
    for point in &used {
        let (step, side) = point.split_once('.').unwrap();
        let other = format!("{step}.{}", if side == "before" { "after" } else { "before" });
        assert!(used.contains(&other), "`{point}` has no `{other}`");
    }
}

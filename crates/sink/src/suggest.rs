//! What was probably meant: names that are near a wrong one, and lists of names, for messages.

/// Names in backticks, with commas between.
pub(crate) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Likeness from which on a name may be meant, as Jaro and Winkler measure it: 0 to 1.
const ALIKE: f64 = 0.88;

/// The name that was probably meant.
pub(crate) fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let wrong = plain(wrong);
    let distance = |name: &str| {
        let name = plain(name);
        // `age_ms` means `age`, `max_bytes` means `bytes`.
        if name.len() >= 3 && wrong.split('_').any(|word| word == name) { 1 } else { strsim::damerau_levenshtein(&wrong, &name) }
    };
    let allowed = (wrong.len() / 3).max(1);
    let near = names.iter().map(|name| (distance(name), *name)).filter(|(distance, _)| *distance <= allowed).min().map(|(_, name)| name);
    // an abbreviation, as `jsonl` for `json_lines`
    near.or_else(|| {
        let alike = names.iter().map(|name| (strsim::jaro_winkler(&wrong, &plain(name)), *name)).filter(|(likeness, _)| *likeness > ALIKE);
        alike.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name)
    })
}

//! The version of the stored forms, one number for all of them.
//!
//! A form is written in the version that it was found in, and a new one in the oldest, so that workers of an older version can take
//! over again. What an older version cannot say raises a head at the first swap that says it; `ledger.version` pins the version.

use super::{Head, Unusable};
use serde::Deserialize;

/// The oldest version.
pub const VERSION_OLDEST: u32 = 1;
/// The newest version that this binary reads and writes.
pub const VERSION: u32 = 1;

/// Something that heads can say from a version on.
pub(in crate::ledger) struct Need {
    version: u32,
    is_in: fn(&Head) -> bool,
}

/// What version 1 cannot say, one row each: nothing yet.
pub(in crate::ledger) const NEEDS: &[Need] = &[];

/// The version to write a head in: the one that it was found in, raised to what it says, or to what `ledger.version` pins.
///
/// # Errors
/// A text when the head says what neither the pinned version nor the found one can say.
pub(in crate::ledger) fn version_to_write(head: &Head, pinned: Option<u32>, needs: &[Need]) -> Result<u32, String> {
    let needed = needs.iter().filter(|need| (need.is_in)(head)).map(|need| need.version).max().unwrap_or(VERSION_OLDEST);
    let kept = head.version.max(pinned.unwrap_or(needed));
    if needed > kept {
        return Err(format!("its head needs version {needed} of the form, and `ledger.version` is `{kept}`"));
    }
    Ok(kept)
}

/// Looks at the version alone, whatever else the form may have become.
pub(in crate::ledger) fn check_version(bytes: &[u8]) -> Result<(), Unusable> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version > u64::from(VERSION) {
        return Err(Unusable::Newer(newer(version)));
    }
    if version < u64::from(VERSION_OLDEST) {
        return Err(Unusable::Broken(format!("it has version {version}, which never was")));
    }
    Ok(())
}

pub(super) fn newer(version: u64) -> String {
    format!("it has version {version}, and this kas3 knows versions up to {VERSION}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOMORROW: [Need; 2] =
        [Need { version: 2, is_in: |head| head.extra.contains_key("tables") }, Need { version: 3, is_in: |head| head.extra.contains_key("rows") }];

    fn head(version: u32, says: &[&str]) -> Head {
        let mut head = serde_json::json!({
            "version": version, "session": "s", "counter": 1, "written_at": "2026-03-01T12:00:05Z", "pipeline": "p", "topic": "t",
            "partition": 0, "cluster_id": "c", "topic_id": null, "incarnation": 0, "start": 0, "next": 0, "leader_epoch": -1, "settings": "",
        });
        says.iter().for_each(|word| head[word] = true.into());
        serde_json::from_value(head).expect("a head")
    }

    #[test]
    fn a_head_is_raised_by_the_first_swap_that_needs_it_and_never_lowered() {
        let written = |version, says: &[&str]| version_to_write(&head(version, says), None, &TOMORROW);
        assert_eq!(written(1, &[]), Ok(1));
        assert_eq!(written(1, &["tables"]), Ok(2));
        assert_eq!(written(1, &["tables", "rows"]), Ok(3));
        assert_eq!(written(2, &[]), Ok(2), "it was raised before");
        assert_eq!(version_to_write(&head(1, &["tables"]), None, NEEDS), Ok(1), "a field that nobody needs raises nothing");
    }

    #[test]
    fn a_pin_raises_at_once_and_is_never_passed() {
        let written = |version, says: &[&str], pinned| version_to_write(&head(version, says), Some(pinned), &TOMORROW);
        assert_eq!(written(1, &[], 2), Ok(2));
        assert_eq!(written(1, &[], 1), Ok(1));
        assert_eq!(written(2, &["tables"], 1), Ok(2), "what is there already is no matter of the pin");
        let refused = written(1, &["tables"], 1).expect_err("a refusal");
        assert!(refused.contains("needs version 2") && refused.contains("`ledger.version` is `1`"), "{refused}");
        assert!(written(1, &["rows"], 2).is_err());
    }

    #[test]
    fn the_version_is_looked_at_before_and_beside_everything_else() {
        assert_eq!(check_version(br#"{"next": {"version": 7}, "version": 1}"#), Ok(()));
        let newer = check_version(br#"{"topic": 5, "version": 4294967297, "next": "x", "closed": null}"#).expect_err("newer");
        assert!(matches!(&newer, Unusable::Newer(why) if why.contains("version 4294967297") && why.contains("up to 1")), "{newer}");
        for broken in [&br#"{"version": 0}"#[..], br#"{"version": -1}"#, br#"{"version": "2"}"#, b"{}", b"", br#"{"version": 2"#] {
            assert!(matches!(check_version(broken), Err(Unusable::Broken(_))), "{}", String::from_utf8_lossy(broken));
        }
    }
}

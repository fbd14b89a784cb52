//! Where in a file something stands.

/// One step towards a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A path as people write it: `source.topics[1]`.
pub(super) fn shown(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// Where something stands in the file, and which setting is meant by it: the same but for misspelt and misplaced keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) written: Vec<Step>,
    pub(super) meant: Vec<Step>,
}

impl Place {
    pub(super) fn enter(&mut self, step: Step) {
        self.written.push(step.clone());
        self.meant.push(step);
    }

    pub(super) fn leave(&mut self) {
        self.written.pop();
        self.meant.pop();
    }
}

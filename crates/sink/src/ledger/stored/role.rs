//! What a file is for.

/// What a file is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Records.
    #[default]
    Data,
    /// An index beside a data file; holds no records.
    SideFile,
}

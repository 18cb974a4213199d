//! `RUN --mount`.

use graph::{Commit, Sharing, Span};

use super::Word;

/// One `--mount`, as fields. Their values may have variables, so that only
/// [`Mount::resolve`] knows what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The fields, in order.
    pub fields: Vec<MountField>,
    /// Where the flag stands.
    pub span: Span,
}

/// `key=value` or `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountField {
    /// The key, in lower case.
    pub key: String,
    /// The value, where there is a `=`.
    pub value: Option<String>,
}

/// `type=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountType {
    /// `bind`.
    #[default]
    Bind,
    /// `cache`.
    Cache,
    /// `tmpfs`.
    Tmpfs,
    /// `secret`.
    Secret,
    /// `ssh`.
    Ssh,
}

/// A mount whose variables are expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `type`.
    pub kind: MountType,
    /// `from`: a stage, an image or a context.
    pub from: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `target`.
    pub target: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// `env` (secret).
    pub env: Option<String>,
    /// Whether the process may only read.
    pub read_only: bool,
    /// `required` (secret, ssh).
    pub required: bool,
    /// `size` in bytes (tmpfs).
    pub size: Option<u64>,
    /// `sharing` (cache).
    pub sharing: Option<Sharing>,
    /// `commit` (cache).
    pub commit: Option<Commit>,
    /// `mode` (cache, secret, ssh).
    pub mode: Option<u32>,
    /// `uid` (cache, secret, ssh).
    pub uid: Option<u32>,
    /// `gid` (cache, secret, ssh).
    pub gid: Option<u32>,
}

impl MountType {
    /// All of them, as written.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    /// As written.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("bind", |(name, _)| name)
    }
}

impl Mount {
    /// Whether a value has a variable in it.
    pub fn has_variables(&self) -> bool {
        self.fields.iter().any(|f| f.value.as_ref().is_some_and(|v| v.contains('$')))
    }

    /// The `type` as written, where it is plain.
    pub fn kind(&self) -> Option<MountType> {
        let Some(written) = self.fields.iter().rev().find(|f| f.key == "type") else {
            return Some(MountType::default());
        };
        let value = written.value.as_deref()?.to_ascii_lowercase();
        MountType::NAMES.iter().find(|(name, _)| *name == value).map(|(_, kind)| *kind)
    }

    /// The `from` field, which takes no variables; an empty one is none.
    pub fn from(&self) -> Option<Word> {
        let field = self.fields.iter().rev().find(|f| f.key == "from")?;
        let value = field.value.clone().filter(|value| !value.is_empty())?;
        Some(Word { value, span: self.span })
    }
}

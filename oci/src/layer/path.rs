//! Paths inside a layer.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest path that is accepted, in bytes (Linux: `PATH_MAX`).
pub const MAX_PATH: usize = 4095;

/// A relative path in normal form: no leading or trailing slash, no empty, `.` or `..`
/// component, no NUL. The empty path is the root directory.
///
/// The order is that of a depth-first walk with sorted directories: `dir`, `dir/x`, `dir-x`
/// (component by component, not byte by byte).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(Box<[u8]>);

/// Why bytes are not a path inside a layer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{path:?} is not a path inside a layer: {reason}")]
pub struct TreePathError {
    /// What was given.
    pub path: String,
    /// The rule it breaks.
    pub reason: &'static str,
}

impl TreePath {
    /// The root directory.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path that must already be in normal form.
    ///
    /// # Errors
    /// If it is not, see the type.
    pub fn new(raw: &[u8]) -> Result<Self, TreePathError> {
        let fail =
            |reason| TreePathError { path: String::from_utf8_lossy(raw).into_owned(), reason };
        if raw.len() > MAX_PATH {
            return Err(fail("it is too long"));
        }
        if raw.contains(&0) {
            return Err(fail("it has a NUL byte"));
        }
        if !raw.is_empty() && raw.split(|b| *b == b'/').any(|c| matches!(c, b"" | b"." | b"..")) {
            return Err(fail("it is not in normal form"));
        }
        Ok(Self(raw.into()))
    }

    /// Brings any path into normal form: absolute ones become relative, `..` clamps at the root.
    ///
    /// # Errors
    /// If it is too long or has a NUL byte.
    pub fn clean(raw: &[u8]) -> Result<Self, TreePathError> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in raw.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                name => parts.push(name),
            }
        }
        Self::new(&parts.join(&b'/'))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether it is the root directory.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory it is in; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// The last component; none for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.0.rsplit(|b| *b == b'/').next().filter(|n| !n.is_empty())
    }

    /// The components, outermost first; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// The path of `name` below this one.
    ///
    /// # Errors
    /// If `name` is not one plain component or the path gets too long.
    pub fn child(&self, name: &[u8]) -> Result<Self, TreePathError> {
        if name.contains(&b'/') || name.is_empty() {
            return Err(TreePathError {
                path: String::from_utf8_lossy(name).into_owned(),
                reason: "it is not one component",
            });
        }
        if self.is_root() {
            return Self::new(name);
        }
        Self::new(&[&self.0, name].join(&b'/'))
    }

    /// `other` appended below this path.
    ///
    /// # Errors
    /// If the path gets too long.
    pub fn join(&self, other: &Self) -> Result<Self, TreePathError> {
        match (self.is_root(), other.is_root()) {
            (true, _) => Ok(other.clone()),
            (_, true) => Ok(self.clone()),
            _ => Self::new(&[&self.0[..], &other.0[..]].join(&b'/')),
        }
    }

    /// Whether this path is `ancestor` or below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        is_within(&self.0, &ancestor.0)
    }

    /// The rest of this path below `ancestor`; the root for `ancestor` itself.
    pub fn strip_prefix(&self, ancestor: &Self) -> Option<Self> {
        if ancestor.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(&ancestor.0[..])?;
        match rest {
            [] => Some(Self::root()),
            [b'/', rest @ ..] => Some(Self(rest.into())),
            _ => None,
        }
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        tree_order(&self.0, &other.0)
    }
}

/// The order of [`TreePath`] on its bytes: with the separator as the smallest byte, byte order
/// is component order.
pub(super) fn tree_order(a: &[u8], b: &[u8]) -> Ordering {
    let at = common_bytes(a, b);
    let key = |b: u8| if b == b'/' { 0 } else { b };
    match (a.get(at), b.get(at)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => key(*a).cmp(&key(*b)),
    }
}

/// How many leading bytes are equal. Paths of one layer share long prefixes and every lookup
/// compares many of them, so this goes in steps of 16.
pub(super) fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 16;
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(|(a, b)| a == b).count();
    let start = steps * STEP;
    start + a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b).count()
}

/// Whether `path` is `ancestor` or below it.
pub(super) fn is_within(path: &[u8], ancestor: &[u8]) -> bool {
    if ancestor.is_empty() {
        return true;
    }
    match path.strip_prefix(ancestor) {
        Some([]) => true,
        Some([next, ..]) => *next == b'/',
        None => false,
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &str) -> TreePath {
        TreePath::new(s.as_bytes()).unwrap()
    }

    #[test]
    fn order_is_depth_first() {
        let mut paths = [p("dir-x"), p("dir/x"), p("dir"), p(""), p("dir/a/b"), p("dir.d")];
        paths.sort();
        assert_eq!(paths, [p(""), p("dir"), p("dir/a/b"), p("dir/x"), p("dir-x"), p("dir.d")]);
    }

    #[test]
    fn clean_clamps() {
        for (raw, want) in
            [("/a//b/./c/", "a/b/c"), ("../../x", "x"), ("a/../../b", "b"), ("/", ""), ("", "")]
        {
            assert_eq!(TreePath::clean(raw.as_bytes()).unwrap(), p(want), "{raw}");
        }
        assert!(TreePath::clean(b"a\0b").is_err());
        assert!(
            TreePath::new(b"/a").is_err()
                && TreePath::new(b"a/").is_err()
                && TreePath::new(b"a/../b").is_err()
        );
    }

    #[test]
    fn relations() {
        assert_eq!(p("a/b").parent(), Some(p("a")));
        assert_eq!(p("a").parent(), Some(p("")));
        assert_eq!(p("").parent(), None);
        assert!(p("a/b").starts_with(&p("a")) && !p("ab").starts_with(&p("a")));
        assert_eq!(p("a/b/c").strip_prefix(&p("a")), Some(p("b/c")));
        assert_eq!(p("a").join(&p("")).unwrap(), p("a"));
        assert_eq!(p("").child(b"x").unwrap(), p("x"));
        assert!(p("").child(b"x/y").is_err() && p("").child(b"..").is_err());
    }
}

//! The names by which a layer says that something is gone (OCI image-spec layer.md,
//! "Whiteouts").

/// What the name of a whiteout begins with.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The name in a directory that hides all that lower layers have there.
pub const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// What the names begin with that AUFS kept for itself: such entries say nothing about content.
pub const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// What a file name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhiteoutName<'a> {
    /// An ordinary name.
    Plain,
    /// The entry of this name is gone.
    Gone(&'a [u8]),
    /// All of the directory's lower content is gone.
    Opaque,
    /// AUFS bookkeeping.
    Aufs,
    /// It begins like a whiteout but names nothing that can be gone: `.wh.`, `.wh..`, `.wh...`.
    Invalid,
}

impl<'a> WhiteoutName<'a> {
    /// Reads the last component of a path.
    pub fn parse(name: &'a [u8]) -> Self {
        if name == OPAQUE_NAME {
            return Self::Opaque;
        }
        if name.starts_with(AUFS_PREFIX) {
            return Self::Aufs;
        }
        match name.strip_prefix(WHITEOUT_PREFIX) {
            None => Self::Plain,
            Some(b"" | b"." | b"..") => Self::Invalid,
            Some(gone) => Self::Gone(gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, want) in [
            (&b"x"[..], WhiteoutName::Plain),
            (b".whx", WhiteoutName::Plain),
            (b".wh.x", WhiteoutName::Gone(b"x")),
            (b".wh..x", WhiteoutName::Gone(b".x")),
            (b".wh..wh..opq", WhiteoutName::Opaque),
            (b".wh..wh.plnk", WhiteoutName::Aufs),
            (b".wh..wh.orph", WhiteoutName::Aufs),
            (b".wh.", WhiteoutName::Invalid),
            (b".wh..", WhiteoutName::Invalid),
            (b".wh...", WhiteoutName::Invalid),
        ] {
            assert_eq!(WhiteoutName::parse(name), want, "{}", String::from_utf8_lossy(name));
        }
    }
}

//! COPY and ADD.

use super::Grammar;
use super::flags::Flag;
use crate::ast::{Transfer, Word};
use crate::syntax::{Args, Heredoc, Raw, heredoc};

const COPY_FLAGS: &[(&str, Flag)] = &[
    ("from", Flag::Text),
    ("chown", Flag::Text),
    ("chmod", Flag::Text),
    ("link", Flag::Switch),
    ("parents", Flag::Switch),
    ("exclude", Flag::List),
];

const ADD_FLAGS: &[(&str, Flag)] = &[
    ("chown", Flag::Text),
    ("chmod", Flag::Text),
    ("link", Flag::Switch),
    ("exclude", Flag::List),
    ("checksum", Flag::Text),
    ("keep-git-dir", Flag::Switch),
    ("unpack", Flag::Switch),
];

impl Grammar {
    pub(super) fn transfer(&mut self, raw: &Raw, copy: bool) -> Option<Transfer> {
        let keyword = if copy { "COPY" } else { "ADD" };
        let mut flags = self.flags(raw, if copy { COPY_FLAGS } else { ADD_FLAGS })?;
        let (words, json): (&[Word], bool) = match &raw.args {
            Args::Words(words) => (words, false),
            Args::Json(words) => (words, true),
            _ => (&[], false),
        };
        let [sources @ .., dest] = words else {
            self.error(raw.line_span, format!("{keyword} requires at least two arguments"));
            return None;
        };
        if sources.is_empty() {
            let message = format!(
                "{keyword} requires at least two arguments, but only one was provided: destination could not be determined"
            );
            self.error(raw.line_span, message);
            return None;
        }
        if !json && heredoc::parse(&dest.value).is_some() {
            self.error(dest.span, format!("{keyword} cannot accept a heredoc as a destination"));
            return None;
        }
        let mut transfer = Transfer {
            dest: dest.clone(),
            from: flags.text("from").filter(|from| !from.value.is_empty()),
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            exclude: flags.list("exclude"),
            link: flags.switch("link"),
            parents: flags.switch("parents"),
            checksum: flags.text("checksum"),
            keep_git_dir: flags.switch("keep-git-dir"),
            unpack: flags.switch("unpack"),
            ..Transfer::default()
        };
        for source in sources {
            let announced = if json { None } else { heredoc::parse(&source.value) };
            match announced {
                None => transfer.sources.push(source.clone()),
                // As in BuildKit, of several bodies with one name the last counts, and where the
                // quotes of the line hide the here-document from the scan there is none.
                Some(doc) => {
                    let body = raw.heredocs.iter().rfind(|d| d.name == doc.name);
                    let (content, span) =
                        body.map_or((String::new(), source.span), |d| (d.content.clone(), d.span));
                    transfer.inline.push(Heredoc { content, span, ..doc });
                }
            }
        }
        Some(transfer)
    }
}

//! A tree as a Dockerfile. Reading it again gives the same tree but for spans, comments inside
//! instructions and layout ([`Dockerfile::same_as`]).

mod arguments;
mod flags;
mod fold;

use std::fmt::{self, Write};

use super::{Dockerfile, Instruction, Kind};
use crate::grammar;
use crate::syntax::{MAX_LINE, Word, is_directive};
use flags::Quoting;

impl fmt::Display for Dockerfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = self.directives.escape;
        let mut directives = false;
        if let Some(syntax) = &self.directives.syntax {
            comment(f, &format!("syntax={}", syntax.value))?;
            directives = true;
        }
        if escape != '\\' {
            comment(f, &format!("escape={escape}"))?;
            directives = true;
        }
        if let Some(check) = &self.directives.check {
            comment(f, &format!("check={}", check.text.value))?;
            directives = true;
        }
        for (at, instruction) in self.instructions.iter().enumerate() {
            let comments = if at == 0 {
                self.comments_of_the_first(instruction)
            } else {
                instruction.comments.as_slice()
            };
            // A comment in the first lines might be taken for a directive.
            let blank = match at {
                0 if directives => !comments.is_empty(),
                0 => comments.first().is_some_and(|c| is_directive(&c.value)),
                _ => matches!(instruction.kind, Kind::From(_)),
            };
            if blank {
                writeln!(f)?;
            }
            comments.iter().try_for_each(|c| comment(f, &c.value))?;
            if !whole(f, instruction, &line(instruction, escape), escape)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Dockerfile {
    /// The comments above the first instruction, without the directives.
    fn comments_of_the_first<'a>(&self, first: &'a Instruction) -> &'a [Word] {
        let read = &self.directives;
        let spans = [read.syntax.as_ref(), read.check.as_ref().map(|c| &c.text)];
        let escape = format!("escape={}", read.escape);
        let is_read = |c: &&Word| {
            spans.iter().flatten().any(|word| word.span == c.span)
                || c.value.replace(char::is_whitespace, "").eq_ignore_ascii_case(&escape)
        };
        let directives = first.comments.iter().take_while(is_read).count();
        &first.comments[directives..]
    }
}

fn comment(f: &mut impl Write, text: &str) -> fmt::Result {
    let blank = if text.is_empty() || text.len() + 2 > MAX_LINE { "" } else { " " };
    writeln!(f, "#{blank}{text}")
}

/// Writes an instruction's line and here-documents. False if nothing may follow: the last
/// here-document has no end.
fn whole(
    f: &mut impl Write,
    instruction: &Instruction,
    line: &str,
    escape: char,
) -> Result<bool, fmt::Error> {
    fold::write(f, line, escape)?;
    for doc in &instruction.heredocs {
        f.write_str(&doc.content)?;
        if !doc.content.is_empty() && !doc.content.ends_with('\n') {
            return Ok(false);
        }
        writeln!(f, "{}", doc.name)?;
    }
    Ok(true)
}

/// The line of an instruction.
///
/// What quotes a flag was written with, and where here-documents stood among other sources, is not
/// in the tree. It can matter: the shell's rules of quoting decide over the whole line which
/// here-documents it announces. So where there may be one, the first way to write the line is taken
/// that reads back the same; the last is the text as it was.
fn line(instruction: &Instruction, escape: char) -> String {
    let plain = arguments::line(instruction, escape, Quoting::Least, false);
    let takes = matches!(instruction.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_));
    if !takes || (!plain.contains("<<") && instruction.heredocs.is_empty()) {
        return plain;
    }
    let others = Quoting::ALL
        .into_iter()
        .flat_map(|quoting| [false, true].map(|inline_first| (quoting, inline_first)));
    let others = others.skip(1).map(|(q, first)| arguments::line(instruction, escape, q, first));
    std::iter::once(plain)
        .chain(others)
        .find(|line| reads_back(instruction, line, escape))
        .unwrap_or_else(|| instruction.text.clone())
}

fn reads_back(instruction: &Instruction, line: &str, escape: char) -> bool {
    let mut text = if escape == '\\' { String::new() } else { format!("# escape={escape}\n") };
    if whole(&mut text, instruction, line, escape).is_err() {
        return false;
    }
    let (file, _) = grammar::parse(&text);
    let [read] = file.instructions.as_slice() else { return false };
    read.unplaced() == instruction.unplaced()
}

//! A tree as a Dockerfile. Reading it again gives the same tree but for spans and comments.

use std::fmt;

use super::{Dockerfile, Instruction};

impl fmt::Display for Dockerfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(syntax) = &self.directives.syntax {
            writeln!(f, "# syntax={}", syntax.value)?;
        }
        if self.directives.escape != '\\' {
            writeln!(f, "# escape={}", self.directives.escape)?;
        }
        if let Some(check) = &self.directives.check {
            writeln!(f, "# check={}", check.text.value)?;
        }
        self.instructions.iter().try_for_each(|i| writeln!(f, "{i}"))
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        for doc in &self.heredocs {
            write!(f, "\n{}{}", doc.content, doc.name)?;
        }
        Ok(())
    }
}

//! COPY and ADD.

use graph::pattern::{Glob, IgnoreList, is_wildcard};
use graph::{
    CopyAction, CopySource, FileAction, FileOp, InlineFile, ModeChange, Op, Owner, Unpack,
    VertexIndex,
};

use super::base::Base;
use super::metadata::{join, known_id};
use super::names;
use super::plan::FromTarget;
use super::stage::{StageLowering, Step, fail};
use crate::Diagnostic;
use crate::ast::{Instruction, Transfer, Word};
use crate::value::is_symbolic_mode;
use crate::word::Lexer;

/// Where the files of a transfer come from.
struct Origin {
    vertex: Option<VertexIndex>,
    context: bool,
}

impl StageLowering<'_, '_> {
    pub(super) fn copy(
        &mut self,
        instruction: &Instruction,
        transfer: &Transfer,
        add: bool,
    ) -> Step<()> {
        refuse(transfer, add)?;
        let sources = self.expand_all(instruction, &transfer.sources)?;
        for (source, word) in sources.iter().zip(&transfer.sources) {
            check_source(source, word, add)?;
        }
        let written = self.expand(instruction, &transfer.dest)?;
        let dest = destination(&self.state.config.working_dir, &written);
        check_destination(transfer, &written, add)?;
        let (chown, owner) = self.owner(instruction, transfer)?;
        let (chmod, mode) = self.mode(instruction, transfer)?;
        let exclude = self.expand_all(instruction, &transfer.exclude)?;
        for (pattern, word) in exclude.iter().zip(&transfer.exclude) {
            if let Err(e) = IgnoreList::from_patterns(&[pattern]) {
                return fail(word.span, e.to_string());
            }
        }
        let parents = transfer.parents.is_some_and(|s| s.on);
        let inline = self.inline(instruction, transfer)?;

        let flags = [
            parents.then(|| "--parents".to_owned()),
            chown.map(|c| format!("--chown={c}")),
            chmod.map(|c| format!("--chmod={c}")),
        ];
        let docs = inline.iter().map(|file| format!("<<{}", file.name));
        let words = flags.into_iter().flatten().chain(sources.iter().cloned());
        let words: Vec<String> = words.chain(docs).chain([written]).collect();
        let keyword = if add { "ADD" } else { "COPY" };
        let history = format!("{keyword} {} # buildkit", words.join(" "));

        let shown = names::shown(instruction, &self.lexer, &self.state.env);
        let name = self.names.next(&shown, self.trigger != 0);
        let meta = self.meta(name, instruction.line_span);
        let mut inputs: Vec<VertexIndex> = self.state.root.into_iter().collect();
        let root = self.state.root.map(|_| 0);
        let action = |source: CopySource, unpack: Unpack| {
            FileAction::Copy(CopyAction {
                source,
                dest: dest.clone(),
                owner: owner.clone(),
                mode: mode.clone(),
                unpack,
                exclude: exclude.clone(),
                parents,
                replace: false,
            })
        };
        let mut actions = Vec::new();
        if !sources.is_empty() {
            let origin = self.origin(transfer);
            let input = origin.vertex.map(|vertex| {
                inputs.push(vertex);
                inputs.len() - 1
            });
            let source = CopySource::Input { input, paths: sources, context: origin.context };
            actions.push(action(source, if add { Unpack::Auto } else { Unpack::Never }));
        }
        if !inline.is_empty() {
            actions.push(action(CopySource::Inline(inline), Unpack::Never));
        }
        self.step(Op::File(FileOp { root, actions }), inputs, meta, history);
        Ok(())
    }

    fn origin(&mut self, transfer: &Transfer) -> Origin {
        let plan = self.all.plan;
        let target = transfer
            .from
            .as_ref()
            .and_then(|from| plan.stages[self.at].froms.get(&(self.trigger, from.span)));
        match target {
            None => Origin { vertex: Some(self.all.local("", true)), context: true },
            Some(FromTarget::Stage(stage)) => {
                let root = self.all.done[*stage].as_ref().and_then(|state| state.root);
                Origin { vertex: root, context: false }
            }
            Some(FromTarget::Base(Base::Image(image))) => {
                let span = transfer.from.as_ref().map(|f| f.span).unwrap_or_default();
                let meta = self.meta(format!("FROM {}", image.name), span);
                Origin { vertex: self.all.image(image, meta), context: false }
            }
            Some(FromTarget::Base(Base::Local(name))) => {
                Origin { vertex: Some(self.all.local(name, false)), context: true }
            }
            Some(FromTarget::Base(Base::Scratch | Base::Stage(_))) => {
                Origin { vertex: None, context: false }
            }
        }
    }

    /// `--chown` as written and as meant.
    fn owner(
        &mut self,
        instruction: &Instruction,
        transfer: &Transfer,
    ) -> Step<(Option<String>, Option<Owner>)> {
        let Some(word) = &transfer.chown else { return Ok((None, None)) };
        let text = self.expand(instruction, word)?;
        if text.is_empty() {
            return Ok((None, None));
        }
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text.as_str(), None),
        };
        if group.is_some_and(|g| g.contains(':')) || (user.is_empty() && group == Some("")) {
            return fail(word.span, format!("invalid owner {text:?} (expected user[:group])"));
        }
        let group = group.filter(|g| !g.is_empty()).map(|g| known_id(g).to_owned());
        let owner = Owner { user: known_id(user).to_owned(), group };
        Ok((Some(text), Some(owner)))
    }

    /// `--chmod` as written and as meant.
    fn mode(
        &mut self,
        instruction: &Instruction,
        transfer: &Transfer,
    ) -> Step<(Option<String>, Option<ModeChange>)> {
        let Some(word) = &transfer.chmod else { return Ok((None, None)) };
        let text = self.expand(instruction, word)?;
        if text.is_empty() {
            return Ok((None, None));
        }
        let octal = text.bytes().all(|b| b.is_ascii_digit());
        let mode = match u32::from_str_radix(&text, 8) {
            Ok(bits) if octal && bits <= 0o7777 => ModeChange::Octal(bits),
            _ if !octal && is_symbolic_mode(&text) => ModeChange::Symbolic(text.clone()),
            _ => {
                let message = format!("invalid mode {text:?} for --chmod");
                let error = Diagnostic::error(word.span, message).help(
                    "write an octal number between 0 and 07777, or a change such as u=rwX,go=rX",
                );
                return Err(Box::new(error));
            }
        };
        Ok((Some(text), Some(mode)))
    }

    /// The here-documents, expanded. Quotes in them are ordinary characters.
    fn inline(&mut self, instruction: &Instruction, transfer: &Transfer) -> Step<Vec<InlineFile>> {
        let lexer = Lexer { ignore_quotes: true, ..Lexer::new('\\') };
        let mut files = Vec::with_capacity(transfer.inline.len());
        for doc in &transfer.inline {
            if doc.name.contains('/') || matches!(doc.name.as_str(), "." | "..") {
                let message = format!("{:?} is not the name of a file", doc.name);
                return fail(instruction.line_span, message);
            }
            let mut data = doc.data();
            if doc.expand {
                let word = Word { value: data, span: doc.span };
                data = self.expand_with(lexer, instruction, &word)?.text;
            }
            files.push(InlineFile { name: doc.name.clone(), data });
        }
        Ok(files)
    }
}

/// Whether a destination can only be a directory.
fn names_directory(written: &str) -> bool {
    matches!(written, "" | "." | "..") || ["/", "/.", "/.."].iter().any(|e| written.ends_with(e))
}

/// The destination as an absolute path; a directory's has a slash at its end.
fn destination(workdir: &str, written: &str) -> String {
    let path = join(workdir, written);
    if names_directory(written) && path != "/" { path + "/" } else { path }
}

/// Several sources need a directory (Docker's reference, COPY; BuildKit lets the last file win).
/// How many of the wildcards match something comes out only when the files are looked at: they
/// are counted then.
fn check_destination(transfer: &Transfer, written: &str, add: bool) -> Step<()> {
    let plain = transfer.sources.iter().filter(|s| !is_wildcard(&s.value)).count();
    if plain + transfer.inline.len() < 2 || names_directory(written) {
        return Ok(());
    }
    let keyword = if add { "ADD" } else { "COPY" };
    let message = format!(
        "when using {keyword} with more than one source, the destination must be a directory and end with a /"
    );
    let error = Diagnostic::error(transfer.dest.span, message);
    Err(Box::new(error.help(format!("write {written}/"))))
}

fn check_source(source: &str, word: &Word, add: bool) -> Step<()> {
    let remote = ["http://", "https://"].iter().any(|scheme| source.starts_with(scheme));
    let git = source.starts_with("git@") && source.contains(':')
        || ["git://", "ssh://"].iter().any(|scheme| source.starts_with(scheme));
    if remote || git {
        let what = if git { "a git repository" } else { "a URL" };
        return if add {
            fail(word.span, format!("not supported yet: ADD of {what}"))
        } else {
            let message = format!("the source can't be {what} for COPY");
            Err(Box::new(Diagnostic::error(word.span, message).help("use ADD")))
        };
    }
    if is_wildcard(source)
        && let Err(e) = Glob::new(source)
    {
        return fail(word.span, e.to_string());
    }
    Ok(())
}

/// What later versions do.
fn refuse(transfer: &Transfer, add: bool) -> Step<()> {
    let keyword = if add { "ADD" } else { "COPY" };
    let link = transfer.link.filter(|s| s.on).map(|s| (s.span, "link"));
    let checksum = transfer.checksum.as_ref().map(|w| (w.span, "checksum"));
    let git = transfer.keep_git_dir.map(|s| (s.span, "keep-git-dir"));
    let unpack = transfer.unpack.map(|s| (s.span, "unpack"));
    match link.or(checksum).or(git).or(unpack) {
        Some((span, flag)) => fail(span, format!("not supported yet: {keyword} --{flag}")),
        None => Ok(()),
    }
}

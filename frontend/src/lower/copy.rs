//! COPY and ADD.

use graph::ignore::IgnoreList;
use graph::pattern::{Glob, is_wildcard};
use graph::{
    CopyAction, CopySource, FileAction, FileOp, Freshness, GitSource, InlineFile, MergeOp,
    ModeChange, Op, Owner, SourceOp, Span, Unpack, Vertex, VertexIndex, VertexMeta,
};

use super::add::{self, Source};
use super::history::Entry;
use super::metadata::{join, known_id};
use super::names;
use super::origin::Origin;
use super::stage::{StageLowering, Step, fail};
use crate::Diagnostic;
use crate::ast::{Instruction, Transfer, Word};
use crate::value::is_symbolic_mode;
use crate::word::Lexer;

/// What somebody is told who seems to have meant the array form.
const ARRAY_FORM: &str = "for paths with blanks there is the array form, which is JSON: \
    [\"a source\", \"a destination\"]";

/// What every action of one COPY or ADD has in common.
struct Common {
    dest: String,
    owner: Option<Owner>,
    mode: Option<ModeChange>,
    exclude: Vec<String>,
    parents: bool,
    replace: bool,
}

impl Common {
    fn action(&self, source: CopySource, unpack: Unpack) -> FileAction {
        FileAction::Copy(CopyAction {
            source,
            dest: self.dest.clone(),
            owner: self.owner.clone(),
            mode: self.mode.clone(),
            unpack,
            exclude: self.exclude.clone(),
            parents: self.parents,
            replace: self.replace,
        })
    }
}

impl StageLowering<'_, '_> {
    pub(super) fn copy(
        &mut self,
        instruction: &Instruction,
        transfer: &Transfer,
        add: bool,
    ) -> Step<()> {
        let texts = transfer.sources.iter().map(|word| self.path(instruction, word));
        let texts = texts.collect::<Step<Vec<String>>>()?;
        let checksum = match &transfer.checksum {
            Some(word) => Some(self.expand(instruction, word)?).filter(|c| !c.is_empty()),
            None => None,
        };
        let sources = match add {
            true => add::sources(transfer, &texts, checksum.as_deref())?,
            false => local_sources(transfer, &texts)?,
        };
        for (source, word) in sources.iter().zip(&transfer.sources) {
            check_pattern(source, word)?;
        }
        self.warn_ignored(instruction, transfer, &sources, add);
        let written = self.path(instruction, &transfer.dest)?;
        check_flags(transfer, add)?;
        let (chown, owner) = self.owner(instruction, transfer)?;
        let (chmod, mode) = self.mode(instruction, transfer)?;
        let exclude = self.expand_all(instruction, &transfer.exclude)?;
        for (pattern, word) in exclude.iter().zip(&transfer.exclude) {
            if let Err(e) = IgnoreList::from_patterns(&[pattern]) {
                return fail(word.span, e.to_string());
            }
        }
        let inline = self.inline(instruction, transfer)?;
        // BuildKit: with --chmod a layer of its own is not made.
        let link = transfer.link.is_some_and(|s| s.on) && mode.is_none();
        let common = Common {
            dest: destination(&self.state.config.working_dir, &written),
            owner,
            mode,
            exclude,
            parents: transfer.parents.is_some_and(|s| s.on),
            replace: link,
        };
        let flags = [
            common.parents.then(|| "--parents".to_owned()),
            chown.as_ref().map(|c| format!("--chown={c}")),
            chmod.map(|c| format!("--chmod={c}")),
        ];
        let marks = marks(transfer, &texts, chown.as_deref());
        let docs = inline.iter().map(|file| format!("<<{}", file.name));
        let words = flags.into_iter().flatten().chain(texts);
        let words: Vec<String> = words.chain(docs).chain([written]).collect();
        let keyword = if add { "ADD" } else { "COPY" };
        let history = format!("{keyword} {} # buildkit", words.join(" "));

        let shown = names::shown(instruction, &self.lexer, &self.state.env);
        let name = self.names.next(&shown, self.trigger != 0);
        let meta = VertexMeta { words: marks, ..self.step_meta(instruction, name, &shown, None) };
        let root = self.state.root.filter(|_| !link);
        let mut inputs: Vec<VertexIndex> = root.into_iter().collect();
        let mut actions = self.transfers(transfer, sources, add, &common, &mut inputs);
        if !inline.is_empty() {
            actions.push(common.action(CopySource::Inline(inline), Unpack::Never));
        }
        let op = Op::File(FileOp { root: root.map(|_| 0), actions });
        match self.state.root.filter(|_| link) {
            Some(base) => self.link(base, op, inputs, meta, history),
            None => self.step(op, inputs, meta, history),
        }
        Ok(())
    }

    /// Warns of sources that the ignore file of the main context excludes.
    fn warn_ignored(
        &mut self,
        instruction: &Instruction,
        transfer: &Transfer,
        sources: &[Source],
        add: bool,
    ) {
        if transfer.from.is_some() {
            return;
        }
        let Some(ignored) = self.all.ignored.as_ref() else { return };
        let sources = sources.iter().zip(&transfer.sources);
        let found: Vec<Diagnostic> = sources
            .filter_map(|(source, word)| match source {
                Source::Path(path) => ignored.check(word.span, add, path),
                Source::Http(_) | Source::Git(_) => None,
            })
            .collect();
        self.warn_all(found, instruction);
    }

    /// One path, its variables expanded.
    fn path(&mut self, instruction: &Instruction, word: &Word) -> Step<String> {
        let quoted = word.value.contains(['"', '\'']);
        self.expand(instruction, word).map_err(|error| match quoted {
            true => Box::new(error.help(ARRAY_FORM)),
            false => error,
        })
    }

    /// The actions of a transfer: one for all paths that stand together, one for each remote
    /// source.
    fn transfers(
        &mut self,
        transfer: &Transfer,
        sources: Vec<Source>,
        add: bool,
        common: &Common,
        inputs: &mut Vec<VertexIndex>,
    ) -> Vec<FileAction> {
        let wanted = transfer.unpack.map(|flag| flag.on);
        let chosen = |default: bool| match add && wanted.unwrap_or(default) {
            true => Unpack::Auto,
            false => Unpack::Never,
        };
        let mut actions: Vec<FileAction> = Vec::new();
        for (source, word) in sources.into_iter().zip(&transfer.sources) {
            let (origin, unpack) = match (source.op(), &source) {
                (Some(op), Source::Git(_)) => (self.remote(op, word), Unpack::Never),
                (Some(op), _) => (self.remote(op, word), chosen(false)),
                (None, _) => {
                    (self.origin(transfer.from.as_ref().map(|from| from.span)), chosen(true))
                }
            };
            let input = origin.vertex.map(|vertex| {
                inputs.iter().position(|v| *v == vertex).unwrap_or_else(|| {
                    inputs.push(vertex);
                    inputs.len() - 1
                })
            });
            let is_path = matches!(source, Source::Path(_));
            if is_path
                && let Some(FileAction::Copy(CopyAction {
                    source: CopySource::Input { input: last, paths, context },
                    ..
                })) = actions.last_mut()
                && (*last, *context) == (input, origin.context)
            {
                paths.extend(source.paths());
                continue;
            }
            let paths = source.paths();
            let from = CopySource::Input { input, paths, context: origin.context };
            actions.push(common.action(from, unpack));
        }
        actions
    }

    /// The vertex of a remote source, which `word` names.
    fn remote(&mut self, op: SourceOp, word: &Word) -> Origin {
        let name = match &op {
            SourceOp::Http(http) => http.to_string(),
            SourceOp::Git(git) => git.to_string(),
            SourceOp::Image(_) | SourceOp::Local(_) => String::new(),
        };
        let meta = VertexMeta { freshness: self.freshness, ..self.meta(name, word.span) };
        let vertex = Vertex { op: Op::Source(op), inputs: Vec::new(), meta };
        Origin { vertex: Some(self.all.definition.add(vertex)), context: false }
    }

    /// Makes a layer of `op` by itself, and puts it onto `base`: what is below may change without
    /// the copy being done again.
    fn link(
        &mut self,
        base: VertexIndex,
        op: Op,
        inputs: Vec<VertexIndex>,
        meta: VertexMeta,
        history: String,
    ) {
        let linked = VertexMeta {
            name: names::linked(&meta.name),
            freshness: Freshness::Any,
            ..meta.clone()
        };
        let layer = self.all.definition.add(Vertex { op, inputs, meta });
        let merge = Op::Merge(MergeOp { base: 0, layer: 1 });
        // It is made of its inputs alone: that the copy was done again is no reason.
        let vertex = Vertex { op: merge, inputs: vec![base, layer], meta: linked };
        let vertex = self.all.definition.add(vertex);
        self.state.root = Some(vertex);
        self.state.history.push(Entry { created_by: history, vertex: Some(vertex) });
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
        if user.is_empty() && group.is_none_or(str::is_empty) {
            return Ok((Some(text), None));
        }
        let group = group.map(|g| known_id(g).to_owned());
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

/// What a failure of a transfer may name.
fn marks(transfer: &Transfer, sources: &[String], chown: Option<&str>) -> Vec<(String, Span)> {
    let sources = sources.iter().cloned().zip(transfer.sources.iter().map(|word| word.span));
    let owner = transfer.chown.as_ref().zip(chown).map(|(word, text)| {
        let user = text.split(':').next().unwrap_or_default();
        (user.to_owned(), word.span)
    });
    sources.chain(owner).filter(|(text, _)| !text.is_empty()).collect()
}

/// A flag after the sources is taken for one of them, which nobody means. (That several sources
/// need a directory is seen when they are copied: it may be there.)
fn check_flags(transfer: &Transfer, add: bool) -> Step<()> {
    const FLAGS: [&str; 9] = [
        "from",
        "chown",
        "chmod",
        "link",
        "parents",
        "exclude",
        "checksum",
        "keep-git-dir",
        "unpack",
    ];
    let is_flag = |word: &&Word| {
        let name = word.value.strip_prefix("--").and_then(|rest| rest.split('=').next());
        name.is_some_and(|name| FLAGS.contains(&name))
    };
    let Some(flag) = transfer.sources.iter().find(is_flag) else { return Ok(()) };
    if names_directory(&transfer.dest.value) {
        return Ok(());
    }
    let keyword = if add { "ADD" } else { "COPY" };
    let message = format!("{} stands where a source is expected", flag.value);
    let error = Diagnostic::error(flag.span, message);
    Err(Box::new(error.help(format!("flags come first: {keyword} {} …", flag.value))))
}

/// The sources of a COPY: it takes no URLs.
fn local_sources(transfer: &Transfer, texts: &[String]) -> Step<Vec<Source>> {
    let remote = |text: &str| add::is_url(text) || !matches!(GitSource::parse(text), Ok(None));
    for (text, word) in texts.iter().zip(&transfer.sources) {
        if transfer.from.is_none() && remote(text) {
            let what = if add::is_url(text) { "a URL" } else { "a git repository" };
            let message = format!("the source can't be {what} for COPY");
            return Err(Box::new(Diagnostic::error(word.span, message).help("use ADD")));
        }
    }
    Ok(texts.iter().cloned().map(Source::Path).collect())
}

fn check_pattern(source: &Source, word: &Word) -> Step<()> {
    match source {
        Source::Path(path) if is_wildcard(path) => match Glob::new(path) {
            Ok(_) => Ok(()),
            Err(e) => {
                let error = Diagnostic::error(word.span, e.to_string());
                let meant = path.starts_with('[');
                Err(Box::new(if meant { error.help(ARRAY_FORM) } else { error }))
            }
        },
        _ => Ok(()),
    }
}

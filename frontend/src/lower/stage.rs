//! Lowering one stage: its state, and the walk over its instructions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use graph::ignore::IgnoreList;
use graph::{
    Definition, FileOp, Freshness, ImageSource, LocalSource, Op, SourceOp, Span, Unpack, Vertex,
    VertexIndex, VertexMeta,
};
use oci::{ImageConfig, Platform, RuntimeConfig};

use super::age::{Ages, Looked};
use super::base::{Base, Image};
use super::environment::{DEFAULT_PATH, Declared, Environment};
use super::history::Entry;
use super::names::Counter;
use super::plan::Plan;
use super::{LowerOptions, MAIN_CONTEXT, ResolvedBase};
use crate::ast::{Instruction, Kind, Word};
use crate::diagnostic::nearest;
use crate::lint::ignored::Ignored;
use crate::word::{Expansion, Lexer, Variables};
use crate::{Diagnostic, Parsed, lint};

/// How many warnings get a "did you mean".
const MAX_SUGGESTIONS: usize = 100;

/// What a stage has come to.
#[derive(Clone)]
pub(super) struct StageState {
    /// The root file system; none for an empty one.
    pub(super) root: Option<VertexIndex>,
    /// The runtime config, its environment apart.
    pub(super) config: RuntimeConfig,
    /// The environment of the config.
    pub(super) config_env: Environment,
    /// The environment of RUN: that of the config, and arguments.
    pub(super) env: Environment,
    /// The arguments declared so far, in the stages below too.
    pub(super) declared: Declared,
    pub(super) author: Option<String>,
    /// What steps run on.
    pub(super) platform: Platform,
    /// What the config says.
    pub(super) image_platform: Platform,
    /// The entries that this stage adds.
    pub(super) history: Vec<Entry>,
    /// The stage it rests on.
    pub(super) parent: Option<usize>,
    pub(super) base: Option<Arc<ResolvedBase>>,
    /// Whether a WORKDIR stands in the file.
    pub(super) workdir_set: bool,
    /// Whether a CMD stands in this very stage.
    pub(super) cmd_set: bool,
}

impl StageState {
    pub(super) fn empty(platform: &Platform) -> Self {
        Self {
            root: None,
            config: RuntimeConfig::default(),
            config_env: Environment::default(),
            env: Environment::default(),
            declared: Declared::default(),
            author: None,
            platform: platform.clone(),
            image_platform: platform.clone(),
            history: Vec::new(),
            parent: None,
            base: None,
            workdir_set: false,
            cmd_set: false,
        }
    }

    /// A stage on top of this one, which is stage `at`. Triggers are not handed on.
    fn child(&self, at: usize) -> Self {
        let mut config = self.config.clone();
        config.on_build.clear();
        Self {
            config,
            history: Vec::new(),
            parent: Some(at),
            cmd_set: false,
            config_env: self.config_env.clone(),
            env: self.env.clone(),
            declared: self.declared.clone(),
            author: self.author.clone(),
            platform: self.platform.clone(),
            image_platform: self.image_platform.clone(),
            base: self.base.clone(),
            ..*self
        }
    }

    /// Fills in what every image has: a `PATH` and a working directory.
    fn complete(&mut self) {
        let env = std::mem::take(&mut self.config.env);
        for variable in env {
            let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
            self.config_env.set(name, value.to_owned());
            self.env.set(name, value.to_owned());
        }
        if self.config_env.get("PATH").is_none() && self.platform.os != "windows" {
            self.config_env.set("PATH", DEFAULT_PATH.to_owned());
            self.env.set("PATH", DEFAULT_PATH.to_owned());
        }
        let workdir = std::mem::take(&mut self.config.working_dir);
        self.config.working_dir = super::metadata::join("/", &workdir);
    }

    /// The config, without history and layers.
    pub(super) fn into_config(self) -> ImageConfig {
        let mut config = ImageConfig::scratch(self.image_platform);
        config.author = self.author;
        config.config = self.config;
        config.config.env =
            self.config_env.list().iter().map(|(k, v)| format!("{k}={v}")).collect();
        config
    }
}

/// Everything that lowering writes to.
pub(super) struct Lowering<'a> {
    pub(super) parsed: &'a Parsed,
    pub(super) options: &'a LowerOptions,
    pub(super) plan: &'a Plan<'a>,
    pub(super) definition: Definition,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) errors: Vec<Diagnostic>,
    /// The stages that are lowered.
    pub(super) done: Vec<Option<StageState>>,
    /// The source vertices of contexts, by name.
    pub(super) sources: HashMap<String, VertexIndex>,
    /// What the ignore file of the main context excludes.
    pub(super) ignored: Option<Ignored>,
    /// The proxy variables of the build.
    pub(super) proxy: Vec<(String, String)>,
    /// `--ttl`.
    pub(super) ages: Ages,
}

/// One stage while it is lowered.
pub(super) struct StageLowering<'l, 'a> {
    pub(super) all: &'l mut Lowering<'a>,
    /// The stage's number.
    pub(super) at: usize,
    pub(super) state: StageState,
    pub(super) names: Counter,
    pub(super) lexer: Lexer,
    /// What is asked of all its steps.
    pub(super) freshness: Freshness,
    /// Which trigger is being lowered, from 1; 0 for the stage's own instructions.
    pub(super) trigger: usize,
    /// The position of that trigger's text in the source map.
    pub(super) file: usize,
}

/// An error at a known place. Boxed: it is the rare case.
pub(super) type Step<T> = Result<T, Box<Diagnostic>>;

pub(super) fn fail<T>(span: Span, message: impl Into<String>) -> Step<T> {
    Err(Box::new(Diagnostic::error(span, message)))
}

pub(super) fn is_step(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

impl<'a> Lowering<'a> {
    /// Lowers stage `at`; those it needs are lowered.
    pub(super) fn stage(&mut self, at: usize) {
        let plan = self.plan;
        let planned = &plan.stages[at];
        // Without one there was an error: its steps are looked at for their own errors only.
        let base = planned.base.clone().unwrap_or(Base::Scratch);
        let stage_name = planned.name.clone().unwrap_or_else(|| at.to_string());
        let filtered = |f: &String| f.eq_ignore_ascii_case(&stage_name) || *f == at.to_string();
        let bodies = planned.triggers.iter().map(|t| &t.instruction).chain(planned.ast.body);
        let steps = bodies.filter(|i| is_step(i)).count();
        let fetched = matches!(base, Base::Image(_) | Base::Local(_));
        let names = Counter {
            stage: if plan.show_stages { planned.shown.clone() } else { String::new() },
            total: if planned.replaced { 0 } else { steps + usize::from(fetched) },
            done: 0,
        };
        let platform = planned.platform.as_ref().unwrap_or(&self.options.platform);
        let mut stage = StageLowering {
            at,
            state: StageState::empty(platform),
            names,
            lexer: Lexer::new(self.parsed.dockerfile.directives.escape),
            freshness: match self.options.no_cache
                || self.options.no_cache_filter.iter().any(filtered)
            {
                true => Freshness::Build,
                false => Freshness::Any,
            },
            trigger: 0,
            file: 0,
            all: self,
        };
        stage.begin(&base);
        if !planned.replaced {
            let head = planned.ast.head.line_span;
            let triggers = planned.triggers.iter().map(|t| (&t.instruction, head));
            let body = planned.ast.body.iter().map(|i| (i, i.line_span));
            stage.all.warnings.extend(lint::stage::repeated(triggers.chain(body)));
            for (n, trigger) in planned.triggers.iter().enumerate() {
                stage.trigger = n + 1;
                let files = &mut stage.all.definition.source_map.files;
                files.push(trigger.source.clone());
                stage.file = files.len() - 1;
                stage.instruction(&trigger.instruction);
            }
            stage.trigger = 0;
            stage.file = 0;
            for instruction in planned.ast.body {
                stage.instruction(instruction);
            }
        }
        let state = stage.state;
        self.done[at] = Some(state);
    }

    /// The source vertex of a local context; [`MAIN_CONTEXT`] is the main one.
    pub(super) fn local(&mut self, name: &str, main: bool) -> VertexIndex {
        let key = if main { String::new() } else { name.to_owned() };
        if let Some(vertex) = self.sources.get(&key) {
            return *vertex;
        }
        let (shown, ignore) = if main {
            ("[internal] load build context".to_owned(), self.options.ignore.clone())
        } else {
            let ignore = self.options.context_ignores.get(name).cloned();
            (
                format!("[context {name}] load from client"),
                ignore.unwrap_or_else(IgnoreList::default),
            )
        };
        let source =
            LocalSource { name: if main { MAIN_CONTEXT } else { name }.to_owned(), ignore };
        let vertex = self.definition.add(Vertex {
            op: Op::Source(SourceOp::Local(source)),
            inputs: Vec::new(),
            meta: VertexMeta { name: shown, ..VertexMeta::default() },
        });
        self.sources.insert(key, vertex);
        vertex
    }

    /// The source vertex of an image; none if it has no layers.
    pub(super) fn image(&mut self, image: &Image, meta: VertexMeta) -> Option<VertexIndex> {
        let config = &image.config;
        let layers =
            !config.rootfs.diff_ids.is_empty() || config.history.iter().any(|h| !h.empty_layer);
        layers.then(|| {
            self.definition.add(Vertex {
                op: Op::Source(SourceOp::Image(ImageSource {
                    name: image.name.clone(),
                    manifest: image.manifest,
                    platform: image.platform.clone(),
                })),
                inputs: Vec::new(),
                meta,
            })
        })
    }
}

impl StageLowering<'_, '_> {
    /// Puts the base in place.
    fn begin(&mut self, base: &Base) {
        let head = self.all.plan.stages[self.at].ast.head;
        match base {
            Base::Scratch => self.state.image_platform = self.all.options.platform.clone(),
            Base::Stage(parent) => {
                if let Some(below) = &self.all.done[*parent] {
                    self.state = below.child(*parent);
                }
                return;
            }
            Base::Image(image) => {
                let name = self.names.next(&format!("FROM {}", image.name), false);
                let meta = self.meta(name, head.line_span);
                let vertex = self.all.image(image, meta);
                self.state.root = vertex;
                self.state.author.clone_from(&image.config.author);
                self.state.image_platform = image.config.platform.clone();
                self.state.config = image.config.config.clone();
                self.state.config.on_build.clear();
                self.state.base = Some(Arc::new(ResolvedBase {
                    name: image.name.clone(),
                    manifest: image.manifest,
                    platform: image.platform.clone(),
                    vertex,
                    config: Arc::clone(&image.config),
                }));
            }
            Base::Local(context) => self.begin_with_context(context, head),
            Base::Remote(remote) => {
                let text = format!("FROM {}", remote.name);
                let vertex = self.all.remote(remote);
                self.state.root = Some(vertex);
                let created_by = format!("{text} # buildkit");
                self.state.history.push(Entry { created_by, vertex: Some(vertex) });
            }
        }
        self.state.complete();
    }

    /// `FROM` a local context: its files are the first layer.
    fn begin_with_context(&mut self, context: &str, head: &Instruction) {
        let input = self.all.local(context, false);
        let text = format!("FROM {context}");
        let name = self.names.next(&text, false);
        let op = Op::File(FileOp::import(".", true, Unpack::Never));
        let meta = VertexMeta { freshness: self.freshness, ..self.meta(name, head.line_span) };
        self.step(op, vec![input], meta, format!("{text} # buildkit"));
    }

    /// A vertex's meta; `span` is in the current file.
    pub(super) fn meta(&self, name: String, span: Span) -> VertexMeta {
        let planned = &self.all.plan.stages[self.at];
        VertexMeta {
            name,
            span: Some((self.file, span)),
            words: Vec::new(),
            stage: planned.name.clone().unwrap_or_else(|| self.at.to_string()),
            freshness: Freshness::Any,
        }
    }

    /// The meta of the step that was named last; `shown` is its instruction as people see it,
    /// `own` the age that it asks for itself.
    pub(super) fn step_meta(
        &mut self,
        instruction: &Instruction,
        name: String,
        shown: &str,
        own: Option<Duration>,
    ) -> VertexMeta {
        let looked = Looked { stage: self.at, number: self.names.done, instruction, shown };
        let asked = self.all.ages.of(self.all.plan, &looked);
        let age = asked.or(own).map_or(Freshness::Any, Freshness::MaxAge);
        let freshness = self.freshness.stricter(age);
        VertexMeta { freshness, ..self.meta(name, instruction.line_span) }
    }

    /// Adds a vertex that makes a layer on the root, and its history entry.
    pub(super) fn step(
        &mut self,
        op: Op,
        inputs: Vec<VertexIndex>,
        meta: VertexMeta,
        text: String,
    ) {
        let vertex = self.all.definition.add(Vertex { op, inputs, meta });
        self.state.root = Some(vertex);
        self.state.history.push(Entry { created_by: text, vertex: Some(vertex) });
    }

    /// Adds a history entry without a layer.
    pub(super) fn note(&mut self, text: String) {
        self.state.history.push(Entry { created_by: text, vertex: None });
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let done = match &instruction.kind {
            Kind::Run(run) => self.run(instruction, run),
            Kind::Copy(copy) => self.copy(instruction, copy, false),
            Kind::Add(add) => self.copy(instruction, add, true),
            _ => self.metadata(instruction),
        };
        if let Err(error) = done {
            let error = self.placed(*error, instruction);
            self.all.errors.push(error);
        }
    }

    /// Problems of a trigger are shown at the FROM that brought it in.
    fn placed(&self, problem: Diagnostic, instruction: &Instruction) -> Diagnostic {
        if self.trigger == 0 {
            return problem;
        }
        let span = self.all.plan.stages[self.at].ast.head.line_span;
        let message = format!("in an ONBUILD trigger: {}", problem.message);
        Diagnostic { span, message, ..problem }.label(instruction.text.clone())
    }

    pub(super) fn warn(&mut self, warning: Diagnostic, instruction: &Instruction) {
        let warning = self.placed(warning, instruction);
        self.all.warnings.push(warning);
    }

    pub(super) fn warn_all(
        &mut self,
        warnings: impl IntoIterator<Item = Diagnostic>,
        instruction: &Instruction,
    ) {
        warnings.into_iter().for_each(|warning| self.warn(warning, instruction));
    }

    /// Expands a word with the environment as it is before the instruction.
    pub(super) fn expand(&mut self, instruction: &Instruction, word: &Word) -> Step<String> {
        self.expand_with(self.lexer, instruction, word).map(|expansion| expansion.text)
    }

    pub(super) fn expand_with(
        &mut self,
        lexer: Lexer,
        instruction: &Instruction,
        word: &Word,
    ) -> Step<Expansion> {
        let expansion = lexer
            .expand(&word.value, &self.state.env)
            .map_err(|e| Box::new(Diagnostic::error(word.span, e.to_string())))?;
        for name in &expansion.unset {
            let known = super::environment::NOT_EXPORTED.contains(&name.as_str())
                || self.state.declared.contains(name);
            if !known {
                let few = self.all.warnings.len() < MAX_SUGGESTIONS;
                let near = few.then(|| nearest(name, self.state.env.names())).flatten();
                let warning = lint::warning::undefined_var(word.span, name, near);
                self.warn(warning, instruction);
            }
        }
        Ok(expansion)
    }

    /// Expands several words.
    pub(super) fn expand_all(
        &mut self,
        instruction: &Instruction,
        words: &[Word],
    ) -> Step<Vec<String>> {
        words.iter().map(|word| self.expand(instruction, word)).collect()
    }
}

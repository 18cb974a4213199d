//! Which stages are needed, what they rest on, and what their triggers are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use graph::{SourceFile, SourceOp, Span};
use oci::{Platform, Reference};

use super::base::{Base, Remote, Resolver};
use super::environment::{self, Declared, Environment};
use super::{ImageLocation, ImageResolver, LowerError, LowerOptions, NamedContext, context};
use crate::ast::{Dockerfile, Instruction, Kind, Mount, Onbuild, Stage, Word};
use crate::diagnostic::nearest;
use crate::word::{Lexer, NoVariables};
use crate::{Diagnostic, Parsed, grammar, lint};

/// Image names that a mistyped FROM was probably meant to be.
const COMMON_IMAGES: [&str; 7] =
    ["alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"];

/// `docker-image://scratch` is the empty image, not an image of that name.
const SCRATCH_IMAGE: &str = "docker.io/library/scratch:latest";

/// In files with more stages a wrong reference is not followed to see whether it is a circle.
const MAX_CIRCLE: usize = 1000;

/// The plan of a build.
pub(super) struct Plan<'a> {
    pub(super) stages: Vec<Planned<'a>>,
    /// The position of the target.
    pub(super) target: usize,
    /// The arguments that FROM sees, and a bare ARG in a stage.
    pub(super) globals: Environment,
    /// Whether names of vertices carry the stage's name.
    pub(super) show_stages: bool,
    /// What is wrong; the stages that it concerns have no base.
    pub(super) errors: Vec<Diagnostic>,
}

/// A stage with what is known of it before it is lowered.
pub(super) struct Planned<'a> {
    pub(super) ast: Stage<'a>,
    /// Its name in lower case.
    pub(super) name: Option<String>,
    /// Its name, or `stage-N`.
    pub(super) shown: String,
    /// `--platform`.
    pub(super) platform: Option<Platform>,
    /// The text after FROM, expanded.
    base_name: String,
    /// What it rests on; none until it is needed.
    pub(super) base: Option<Base>,
    /// Whether a named context stands in for all of it.
    pub(super) replaced: bool,
    pub(super) needed: bool,
    /// The ONBUILD triggers that run first.
    pub(super) triggers: Vec<Trigger>,
    /// What each `--from` means, by where its value stands.
    pub(super) froms: HashMap<(usize, Span), FromTarget>,
}

/// A trigger, parsed.
pub(super) struct Trigger {
    pub(super) instruction: Instruction,
    /// Its text as a source file, and that file's position in the source map less one.
    pub(super) source: SourceFile,
}

/// What a `--from` names.
#[derive(Clone)]
pub(super) enum FromTarget {
    Stage(usize),
    Base(Base),
}

impl From<Base> for FromTarget {
    fn from(base: Base) -> Self {
        match base {
            Base::Stage(stage) => Self::Stage(stage),
            other => Self::Base(other),
        }
    }
}

impl<'a> Plan<'a> {
    pub(super) fn make(
        parsed: &'a Parsed,
        options: &LowerOptions,
        images: &dyn ImageResolver,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Self, LowerError> {
        let file = &parsed.dockerfile;
        let stages = file.stages();
        let mut errors = Vec::new();
        let last = stages.last().and_then(|s| s.from.name.as_ref()).map(|n| n.value.to_lowercase());
        let target_name = options.target.clone().or(last).unwrap_or_else(|| "default".to_owned());
        let (globals, declared) = environment::globals(file, options, &target_name, &mut errors);
        let lexer = Lexer::new(file.directives.escape);
        let mut reader = HeadReader {
            lexer,
            globals: &globals,
            declared: &declared,
            errors,
            warnings: Vec::new(),
        };
        reader.defaults(file, &stages, options);
        let stages: Vec<Planned<'a>> =
            stages.iter().enumerate().map(|(at, stage)| reader.head(at, *stage)).collect();
        let HeadReader { mut errors, warnings: mut found, .. } = reader;
        warnings.append(&mut found);
        let target = find_target(&stages, options.target.as_deref())?;
        let show_stages = stages.len() != 1 || stages.iter().any(copies_from_outside);
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, stage) in stages.iter().enumerate() {
            if let Some(name) = &stage.name {
                by_name.entry(name.clone()).or_default().push(at);
            }
        }
        let resolver = Resolver::new(images);
        let mut planner = Planner { stages, by_name, options, resolver, lexer, warnings };
        planner.need_all(target, &mut errors)?;
        Ok(Self { stages: planner.stages, target, globals, show_stages, errors })
    }
}

fn find_target(stages: &[Planned<'_>], target: Option<&str>) -> Result<usize, LowerError> {
    let Some(target) = target.filter(|t| !t.is_empty()) else {
        return Ok(stages.len().saturating_sub(1));
    };
    let lower = target.to_lowercase();
    let named = stages.iter().rposition(|s| s.name.as_deref() == Some(lower.as_str()));
    let shown = || stages.iter().position(|s| s.name.is_none() && s.shown == lower);
    let number = || target.parse().ok().filter(|at: &usize| *at < stages.len());
    named.or_else(shown).or_else(number).ok_or_else(|| LowerError::Target {
        name: target.to_owned(),
        suggestion: nearest(target, stages.iter().filter_map(|s| s.name.as_deref()))
            .map(str::to_owned),
    })
}

/// Whether a COPY of the stage names something that is no stage of the file.
fn copies_from_outside(stage: &Planned<'_>) -> bool {
    stage.ast.body.iter().any(|i| match &i.kind {
        Kind::Copy(copy) => copy.from.as_ref().is_some_and(|f| f.value.parse::<usize>().is_err()),
        _ => false,
    })
}

/// What a COPY takes files from and a RUN mounts, other than the main context.
fn froms_of(instruction: &Instruction) -> Vec<Word> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().cloned().collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(Mount::from).collect(),
        _ => Vec::new(),
    }
}

/// Reads the FROM lines.
struct HeadReader<'e> {
    lexer: Lexer,
    globals: &'e Environment,
    declared: &'e Declared,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl HeadReader<'_> {
    /// What FROM would be if no argument was given.
    fn defaults(&mut self, file: &Dockerfile, stages: &[Stage<'_>], options: &LowerOptions) {
        let plain;
        let mut globals = self.globals;
        if !options.build_args.is_empty() {
            let options = LowerOptions { build_args: BTreeMap::new(), ..options.clone() };
            let mut errors = Vec::new();
            (plain, _) = environment::globals(file, &options, "", &mut errors);
            if !errors.is_empty() {
                return;
            }
            globals = &plain;
        }
        self.warnings.extend(lint::from::defaults(stages, &self.lexer, globals));
    }

    fn head<'a>(&mut self, at: usize, ast: Stage<'a>) -> Planned<'a> {
        let name = ast.from.name.as_ref().map(|n| n.value.to_lowercase());
        let base_name = self.expand(&ast.from.base);
        if base_name.as_ref().is_some_and(String::is_empty) {
            let message = format!("base name ({}) should not be blank", ast.from.base.value);
            self.errors.push(Diagnostic::error(ast.from.base.span, message));
        }
        let platform = ast.from.platform.as_ref().and_then(|word| {
            let doubtful = lint::from::platform(word, name.as_deref(), &self.lexer, self.globals);
            self.warnings.extend(doubtful);
            let text = self.expand(word)?;
            let problem = if text.is_empty() {
                format!("empty platform value from expression {}", word.value)
            } else {
                match text.parse::<Platform>() {
                    Ok(platform) => return Some(platform),
                    Err(e) => format!("failed to parse platform {}: {e}", word.value),
                }
            };
            self.errors.push(Diagnostic::error(word.span, problem));
            None
        });
        Planned {
            ast,
            shown: name.clone().unwrap_or_else(|| format!("stage-{at}")),
            name,
            platform,
            base_name: base_name.unwrap_or_default(),
            base: None,
            replaced: false,
            needed: false,
            triggers: Vec::new(),
            froms: HashMap::new(),
        }
    }

    fn expand(&mut self, word: &Word) -> Option<String> {
        match self.lexer.expand(&word.value, self.globals) {
            Ok(expansion) => {
                for name in expansion.unset.iter().filter(|n| !self.declared.contains(n)) {
                    let declared = self.declared.list.iter().map(|(name, _)| name.as_str());
                    let near = nearest(name, declared.chain(self.globals.names()));
                    self.warnings.push(lint::warning::undefined_arg(word.span, name, near));
                }
                Some(expansion.text)
            }
            Err(e) => {
                self.errors.push(Diagnostic::error(word.span, e.to_string()));
                None
            }
        }
    }
}

/// Finds out what is needed.
struct Planner<'a, 'o> {
    stages: Vec<Planned<'a>>,
    /// The stages of each name, ascending.
    by_name: HashMap<String, Vec<usize>>,
    options: &'o LowerOptions,
    resolver: Resolver<'o>,
    lexer: Lexer,
    warnings: &'o mut Vec<Diagnostic>,
}

impl Planner<'_, '_> {
    /// Resolves what the target needs, or all stages if all are wanted.
    fn need_all(&mut self, target: usize, errors: &mut Vec<Diagnostic>) -> Result<(), LowerError> {
        let all = self.options.all_stages;
        self.stages[target].needed = true;
        for at in (0..self.stages.len()).rev() {
            self.stages[at].needed |= all;
            if self.stages[at].needed {
                self.need(at, errors)?;
            }
        }
        Ok(())
    }

    /// Resolves what stage `at` rests on and marks what else it needs.
    fn need(&mut self, at: usize, errors: &mut Vec<Diagnostic>) -> Result<(), LowerError> {
        let span = self.stages[at].ast.from.base.span;
        let (base, triggers) = match self.base_of(at, span, errors)? {
            Some(base) => base,
            // What else is wrong with it is to be told as well.
            None => return self.find_froms(at, errors),
        };
        if let Base::Stage(parent) = base {
            self.stages[parent].needed = true;
        }
        self.stages[at].base = Some(base);
        if self.stages[at].replaced {
            return Ok(());
        }
        let head = self.stages[at].ast.head.line_span;
        for text in triggers {
            match grammar::parse_one(&text) {
                Ok(instruction)
                    if !matches!(
                        instruction.kind,
                        Kind::From(_) | Kind::Maintainer(_) | Kind::Onbuild(_)
                    ) =>
                {
                    let name = format!("ONBUILD of {}", self.stages[at].base_name);
                    let source = SourceFile { name, text: Arc::from(text.as_str()) };
                    self.stages[at].triggers.push(Trigger { instruction, source });
                }
                Ok(instruction) => {
                    let keyword = instruction.keyword.value.to_uppercase();
                    let message = format!("{keyword} isn't allowed as an ONBUILD trigger");
                    errors.push(Diagnostic::error(head, message).label(text));
                }
                Err(problems) => errors.extend(problems.into_iter().map(|problem| {
                    let message = format!("in an ONBUILD trigger: {}", problem.message);
                    Diagnostic::error(head, message).label(text.clone())
                })),
            }
        }
        self.find_froms(at, errors)
    }

    /// Resolves every `--from` of a stage and its triggers.
    fn find_froms(&mut self, at: usize, errors: &mut Vec<Diagnostic>) -> Result<(), LowerError> {
        let head = self.stages[at].ast.head.line_span;
        let mut words: Vec<(usize, Word)> = Vec::new();
        let triggers = self.stages[at].triggers.iter().enumerate();
        let triggers = triggers.map(|(n, t)| (n + 1, &t.instruction));
        let body = self.stages[at].ast.body.iter().map(|i| (0, i));
        for (file, instruction) in triggers.chain(body) {
            words.extend(froms_of(instruction).into_iter().map(|from| (file, from)));
        }
        for (file, word) in words {
            let shown = if file == 0 { word.span } else { head };
            match self.target_of_from(at, &word.value, shown)? {
                Ok(target) => {
                    if let FromTarget::Stage(stage) = target {
                        self.stages[stage].needed = true;
                    }
                    self.stages[at].froms.insert((file, word.span), target);
                }
                Err(error) => errors.push(*error),
            }
        }
        Ok(())
    }

    /// What a stage rests on, and the triggers that come with it; none after an error.
    fn base_of(
        &mut self,
        at: usize,
        span: Span,
        errors: &mut Vec<Diagnostic>,
    ) -> Result<Option<(Base, Vec<String>)>, LowerError> {
        let stage = &self.stages[at];
        let platform = stage.platform.clone().unwrap_or_else(|| self.options.platform.clone());
        let name = stage.base_name.clone();
        if name.is_empty() {
            // There was an error already.
            return Ok(None);
        }
        if let Some(own) = stage.name.clone()
            && let Some((key, named)) = context::find(self.options, &own, &platform)
        {
            let own_span = self.stages[at].ast.from.name.as_ref().map_or(span, |n| n.span);
            self.stages[at].replaced = true;
            return match self.named(at, (key, named), &own, platform, own_span)? {
                Ok(base) => Ok(Some((base, Vec::new()))),
                Err(error) => {
                    errors.push(*error);
                    Ok(None)
                }
            };
        }
        if let Some(parent) = self.stage_before(at, &name) {
            return Ok(Some((Base::Stage(parent), self.onbuild_of(parent))));
        }
        if name == "scratch" {
            return Ok(Some((Base::Scratch, Vec::new())));
        }
        let base = match self.outside(at, &name, platform, span)? {
            Ok(base) => base,
            Err(error) => {
                errors.push(*error);
                return Ok(None);
            }
        };
        let triggers = match &base {
            Base::Image(image) => image.config.config.on_build.clone(),
            Base::Stage(parent) => self.onbuild_of(*parent),
            _ => Vec::new(),
        };
        Ok(Some((base, triggers)))
    }

    /// The ONBUILD instructions that stand in a stage of the file.
    fn onbuild_of(&self, stage: usize) -> Vec<String> {
        if self.stages[stage].base.is_some() && self.stages[stage].replaced {
            return Vec::new();
        }
        let expression = |i: &Instruction| match &i.kind {
            Kind::Onbuild(Onbuild { expression, .. }) => Some(expression.clone()),
            _ => None,
        };
        self.stages[stage].ast.body.iter().filter_map(expression).collect()
    }

    /// The last stage before `at` that has this name, letter case aside.
    fn stage_before(&self, at: usize, name: &str) -> Option<usize> {
        let all = self.by_name.get(&name.to_lowercase())?;
        let before = all.partition_point(|stage| *stage < at);
        before.checked_sub(1).map(|last| all[last])
    }

    /// What `--from` in stage `at` names: a context, a stage, a stage's number, an image.
    fn target_of_from(
        &mut self,
        at: usize,
        name: &str,
        span: Span,
    ) -> Result<Result<FromTarget, Box<Diagnostic>>, LowerError> {
        let fail = |message: String| Ok(Err(Box::new(Diagnostic::error(span, message))));
        let literal = self.lexer.expand(name, &NoVariables).is_ok_and(|e| e.text == name);
        if !literal {
            let message = "variable expansion is not supported for --from";
            let help = "define a stage with FROM and an ARG from before the first FROM, and name that stage";
            return Ok(Err(Box::new(Diagnostic::error(span, message).help(help))));
        }
        let platform = self.options.platform.clone();
        if let Some((key, named)) = context::find(self.options, name, &platform) {
            let named = self.named(at, (key, named), name, platform, span)?;
            return Ok(named.map(FromTarget::from));
        }
        let later = || self.by_name.get(&name.to_lowercase()).and_then(|all| all.first()).copied();
        let number = || name.parse::<usize>().ok();
        let shown = &self.stages[at].shown;
        let small = self.stages.len() <= MAX_CIRCLE;
        match self.stage_before(at, name).or_else(later).or_else(number) {
            Some(stage) if stage < at => Ok(Ok(FromTarget::Stage(stage))),
            Some(stage) if stage >= self.stages.len() => {
                fail(format!("invalid stage index {stage}: there are {} stages", self.stages.len()))
            }
            Some(stage) if stage == at || (small && self.leads_to(stage, at)) => {
                fail(format!("circular dependency detected on stage {shown:?}"))
            }
            Some(_) => fail(format!(
                "cannot copy from stage {name:?}, it needs to be defined before current stage {shown:?}"
            )),
            None if name == "scratch" => Ok(Ok(FromTarget::Base(Base::Scratch))),
            None => Ok(self.outside(at, name, platform, span)?.map(FromTarget::from)),
        }
    }

    /// Whether stage `from` needs stage `to` as far as the file alone tells.
    fn leads_to(&self, from: usize, to: usize) -> bool {
        let mut seen = vec![false; self.stages.len()];
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            if at == to {
                return true;
            }
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let stage = &self.stages[at];
            open.extend(self.stage_before(at, &stage.base_name));
            for from in stage.ast.body.iter().flat_map(froms_of) {
                open.extend(self.stage_before(at, &from.value));
                open.extend(from.value.parse::<usize>().ok().filter(|n| *n < at));
            }
        }
        false
    }

    /// An image, or the context that stands in for it.
    fn outside(
        &mut self,
        at: usize,
        name: &str,
        platform: Platform,
        span: Span,
    ) -> Result<Result<Base, Box<Diagnostic>>, LowerError> {
        if let Some((key, named)) = context::find(self.options, name, &platform) {
            return self.named(at, (key, named), name, platform, span);
        }
        match name.parse::<Reference>() {
            Ok(reference) => {
                let image = self.resolver.image(reference, platform, ImageLocation::Default, name);
                let image = image.map_err(|source| self.unresolved(name, span, source))?;
                let (wanted, config) = (&image.platform, &image.config);
                self.warnings.extend(lint::from::base_platform(span, name, wanted, config));
                Ok(Ok(Base::Image(image)))
            }
            Err(e) => {
                let error = Diagnostic::error(span, format!("failed to parse image name: {e}"));
                let names = self.stages.iter().filter_map(|s| s.name.as_deref());
                Ok(Err(Box::new(error.suggest(name, names))))
            }
        }
    }

    /// What a named context is to stage `at`, where it is called `name`.
    fn named(
        &mut self,
        at: usize,
        (key, named): (&str, &NamedContext),
        name: &str,
        platform: Platform,
        span: Span,
    ) -> Result<Result<Base, Box<Diagnostic>>, LowerError> {
        let location = ImageLocation::Context(key.to_owned());
        let remote = |source| Base::Remote(Arc::new(Remote { name: key.to_owned(), source }));
        let reference = match named {
            NamedContext::Local => return Ok(Ok(Base::Local(key.to_owned()))),
            NamedContext::Git(git) => return Ok(Ok(remote(SourceOp::Git(git.clone())))),
            NamedContext::Http(http) => return Ok(Ok(remote(SourceOp::Http(http.clone())))),
            NamedContext::Stage(stage) => return Ok(self.stage_context(at, key, stage, span)),
            NamedContext::Image(reference) => reference.clone(),
            NamedContext::Layout => layout_reference(name),
        };
        if reference.to_string() == SCRATCH_IMAGE {
            return Ok(Ok(Base::Scratch));
        }
        let image = self.resolver.image(reference, platform, location, name);
        Ok(Ok(Base::Image(image.map_err(|source| self.unresolved(name, span, source))?)))
    }

    /// The stage that a `target:` context names; stages are built in their order.
    fn stage_context(
        &self,
        at: usize,
        key: &str,
        stage: &str,
        span: Span,
    ) -> Result<Base, Box<Diagnostic>> {
        let number = || stage.parse::<usize>().ok().filter(|n| *n < at);
        if let Some(found) = self.stage_before(at, stage).or_else(number) {
            return Ok(Base::Stage(found));
        }
        let all = self.stages.iter().filter_map(|s| s.name.as_deref());
        let message = if all.clone().any(|name| name.eq_ignore_ascii_case(stage)) {
            let shown = &self.stages[at].shown;
            format!("context {key:?} is stage {stage:?}, which must stand before stage {shown:?}")
        } else {
            format!("context {key:?} is stage {stage:?}, which the Dockerfile does not have")
        };
        Err(Box::new(Diagnostic::error(span, message).suggest(stage, all)))
    }

    fn unresolved(
        &self,
        name: &str,
        span: Span,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> LowerError {
        let names = self.stages.iter().filter_map(|s| s.name.as_deref()).chain(COMMON_IMAGES);
        let suggestion = nearest(name, names).map(str::to_owned);
        LowerError::Resolve { span, reference: name.to_owned(), suggestion, source }
    }
}

/// A layout's image is known by the name in the Dockerfile, or by a stand-in if that is no
/// reference.
fn layout_reference(name: &str) -> Reference {
    let stand_in = || "layout".parse::<Reference>().ok();
    let reference = name.parse::<Reference>().ok().or_else(stand_in);
    reference.expect("\"layout\" is a reference")
}

//! What a target takes from outside: arguments, secrets, ssh agents, caches.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use graph::{Definition, MountKind, Op, Span};

use super::base::Base;
use super::plan::{FromTarget, Plan};
use super::stage::StageState;
use super::{ImageResolver, LowerError, LowerOptions, Stages, fail_on, lower_stages, plan};
use crate::Parsed;
use crate::ast::{Instruction, Kind};
use crate::call::{Outline, OutlineArg, OutlineMount};
use crate::lint::from::Recorder;
use crate::lint::note;
use crate::word::{Lexer, Variables};

/// What the target takes, with the values that arguments have in this build.
///
/// # Errors
/// As [`super::lower()`], but warnings never fail it.
pub fn outline(
    parsed: &Parsed,
    options: &LowerOptions,
    images: &dyn ImageResolver,
) -> Result<Outline, LowerError> {
    let plan = plan(parsed, options, images, &mut Vec::new())?;
    let Stages { definition, errors, done, .. } = lower_stages(parsed, options, &plan);
    fail_on(errors)?;
    let target = &plan.stages[plan.target];
    let name = target.name.clone().unwrap_or_default();
    let description = note::description(target.ast.head, &name).unwrap_or_default().to_owned();
    let mut outline = Outline { name, description, ..Outline::default() };
    outline.args = Args::new(parsed, options, &plan, &done).collect();
    mounts(&plan, &definition, &mut outline);
    Ok(outline)
}

/// An argument and the arguments that its default uses.
struct Declaration {
    arg: OutlineArg,
    uses: Vec<String>,
}

/// Finds the arguments (BuildKit: `dockerfile2llb/outline.go`).
struct Args<'p> {
    plan: &'p Plan<'p>,
    done: &'p [Option<StageState>],
    given: &'p BTreeMap<String, String>,
    lexer: Lexer,
    /// Those before the first FROM.
    globals: BTreeMap<String, Declaration>,
    found: Vec<OutlineArg>,
    seen: HashSet<String>,
}

impl<'p> Args<'p> {
    fn new(
        parsed: &Parsed,
        options: &'p LowerOptions,
        plan: &'p Plan<'p>,
        done: &'p [Option<StageState>],
    ) -> Self {
        let mut args = Self {
            plan,
            done,
            given: &options.build_args,
            lexer: Lexer::new(parsed.dockerfile.directives.escape),
            globals: BTreeMap::new(),
            found: Vec::new(),
            seen: HashSet::new(),
        };
        for instruction in parsed.dockerfile.globals() {
            args.global(instruction);
        }
        args
    }

    fn global(&mut self, instruction: &Instruction) {
        let Kind::Arg(items) = &instruction.kind else { return };
        for item in items {
            let name = &item.name.value;
            let default = item.default.as_ref().filter(|_| !self.given.contains_key(name));
            let mut uses = default.map_or_else(Vec::new, |word| self.used_in(&word.value));
            uses.retain(|other| self.globals.contains_key(other));
            let value = self.plan.globals.get(name).unwrap_or_default();
            let arg = argument(instruction, name, value, item.name.span);
            self.globals.insert(name.clone(), Declaration { arg, uses });
        }
    }

    /// The arguments before the first FROM that a text uses.
    fn used_in(&self, text: &str) -> Vec<String> {
        let recorder = Recorder::new(&self.plan.globals);
        // What cannot be expanded is an error elsewhere.
        let _ = self.lexer.expand(text, &recorder);
        recorder.used()
    }

    /// Those of the target and of all that it needs, by position.
    fn collect(mut self) -> Vec<OutlineArg> {
        for at in order(self.plan) {
            self.stage(at);
        }
        self.found.sort_by_key(|arg| arg.span.start);
        self.found
    }

    fn stage(&mut self, at: usize) {
        let stage = &self.plan.stages[at];
        let from = stage.ast.from;
        let mut used = BTreeSet::new();
        for word in [Some(&from.base), from.platform.as_ref()].into_iter().flatten() {
            used.extend(self.used_in(&word.value));
        }
        let mut own: BTreeMap<String, OutlineArg> = BTreeMap::new();
        let head = stage.ast.head.line_span;
        let triggers = stage.triggers.iter().map(|t| (&t.instruction, Some(head)));
        let body = stage.ast.body.iter().map(|i| (i, None));
        for (instruction, place) in triggers.chain(body).filter(|_| !stage.replaced) {
            let Kind::Arg(items) = &instruction.kind else { continue };
            for item in items {
                let name = &item.name.value;
                used.insert(name.clone());
                let inherits = item.default.is_none() && !self.given.contains_key(name);
                // Without a default it is the one before the first FROM, or a predefined one.
                if inherits && self.plan.globals.get(name).is_some() {
                    continue;
                }
                let value = self.value(at, name);
                let span = place.unwrap_or(item.name.span);
                own.insert(name.clone(), argument(instruction, name, &value, span));
            }
        }
        let mut open: Vec<String> = used.into_iter().collect();
        while let Some(name) = open.pop() {
            let global = self.globals.get(&name);
            let Some(arg) = own.get(&name).or(global.map(|g| &g.arg)) else { continue };
            if self.seen.insert(name.clone()) {
                self.found.push(arg.clone());
                open.extend(global.into_iter().flat_map(|g| g.uses.clone()));
            }
        }
    }

    fn value(&self, at: usize, name: &str) -> String {
        let state = self.done[at].as_ref();
        state.and_then(|state| state.declared.value(name)).unwrap_or_default().to_owned()
    }
}

fn argument(instruction: &Instruction, name: &str, value: &str, span: Span) -> OutlineArg {
    let description = note::description(instruction, name).unwrap_or_default().to_owned();
    OutlineArg { name: name.to_owned(), description, value: value.to_owned(), span }
}

/// The target, and the stages that it needs: what it rests on before what it takes files from.
fn order(plan: &Plan<'_>) -> Vec<usize> {
    let mut seen = vec![false; plan.stages.len()];
    let mut order = Vec::new();
    let mut open = vec![plan.target];
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut seen[at], true) {
            continue;
        }
        order.push(at);
        let stage = &plan.stages[at];
        let mut others: Vec<usize> = stage.froms.values().filter_map(stage_of).collect();
        others.sort_unstable();
        open.append(&mut others);
        if let Some(Base::Stage(parent)) = stage.base {
            open.push(parent);
        }
    }
    order
}

fn stage_of(target: &FromTarget) -> Option<usize> {
    match target {
        FromTarget::Stage(stage) => Some(*stage),
        FromTarget::Base(_) => None,
    }
}

/// The mounts of all steps. Only steps that the target needs are in the definition.
fn mounts(plan: &Plan<'_>, definition: &Definition, outline: &mut Outline) {
    let mut seen = HashSet::new();
    for vertex in definition.vertices() {
        let Op::Exec(exec) = &vertex.op else { continue };
        let span = match vertex.meta.span {
            Some((0, span)) => span,
            // The step of a trigger stands where its base image is named.
            _ => plan
                .stages
                .iter()
                .enumerate()
                .find(|(at, stage)| {
                    *stage.name.as_ref().unwrap_or(&at.to_string()) == vertex.meta.stage
                })
                .map_or_else(Span::default, |(_, stage)| stage.ast.head.line_span),
        };
        for mount in &exec.mounts {
            let (kind, list, id, required) = match &mount.kind {
                MountKind::Secret { id, required, .. } => (0, &mut outline.secrets, id, *required),
                MountKind::Ssh { id, required, .. } => (1, &mut outline.ssh, id, *required),
                MountKind::Cache { id, .. } => (2, &mut outline.caches, id, false),
                MountKind::Bind { .. } | MountKind::Tmpfs { .. } => continue,
            };
            if seen.insert((kind, id)) {
                list.push(OutlineMount { id: id.clone(), required, span });
            }
        }
    }
    for list in [&mut outline.secrets, &mut outline.ssh, &mut outline.caches] {
        list.sort_by_key(|mount| mount.span.start);
    }
}

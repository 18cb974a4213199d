//! Variables: the environment of a stage, global arguments, proxies.

use std::collections::{BTreeSet, HashMap};

use super::{LowerOptions, plan::Plan};
use crate::Parsed;
use crate::ast::{Dockerfile, Instruction, Kind};
use crate::diagnostic::Diagnostic;
use crate::value::platform_values;
use crate::word::{Lexer, Variables};

/// The proxy variables, in lower case.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Arguments that never reach the environment of a process.
pub(super) const NOT_EXPORTED: [&str; 2] =
    ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The argument that times of an image are clamped to (reproducible-builds.org).
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The `PATH` of images that have none (Docker's default for Linux).
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in the order in which they were first set.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    list: Vec<(String, String)>,
    index: HashMap<String, usize>,
    /// When each was last set, as counted by `sets`.
    last: Vec<usize>,
    /// How often a variable was set.
    sets: usize,
}

impl Environment {
    /// Sets a variable; one that is there keeps its place.
    pub(super) fn set(&mut self, name: &str, value: String) {
        self.sets += 1;
        match self.index.get(name) {
            Some(at) => {
                self.list[*at].1 = value;
                self.last[*at] = self.sets;
            }
            None => {
                self.index.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
                self.last.push(self.sets);
            }
        }
    }

    /// The variables in the order in which they were last set: that in which a process gets them
    /// (BuildKit; the config of an image has them in the order of [`Self::list`]).
    pub(super) fn by_last_set(&self) -> Vec<(String, String)> {
        let mut order: Vec<usize> = (0..self.list.len()).collect();
        order.sort_by_key(|at| self.last[*at]);
        order.into_iter().map(|at| self.list[at].clone()).collect()
    }

    pub(super) fn list(&self) -> &[(String, String)] {
        &self.list
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|(name, _)| name.as_str())
    }
}

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|at| self.list[*at].1.as_str())
    }
}

/// The arguments that were declared, in the order in which they were first declared, with the
/// values that they were given.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared {
    pub(super) list: Vec<(String, Option<String>)>,
    index: HashMap<String, usize>,
}

impl Declared {
    pub(super) fn set(&mut self, name: &str, value: Option<String>) {
        match self.index.get(name) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.index.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    /// The value that the argument was given last; none without one.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.index.get(name).and_then(|at| self.list[*at].1.as_deref())
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }
}

/// The arguments that FROM sees: the platform ones, then those before the first FROM.
pub(super) fn globals(
    file: &Dockerfile,
    options: &LowerOptions,
    target: &str,
    errors: &mut Vec<Diagnostic>,
) -> (Environment, Declared) {
    let mut known = Environment::default();
    let mut declared = Declared::default();
    let given = |name: &str| options.build_args.get(name).cloned();
    for (side, platform) in [("BUILD", &options.build_platform), ("TARGET", &options.platform)] {
        for (what, value) in platform_values(platform) {
            let name = format!("{side}{what}");
            let value = given(&name).unwrap_or(value);
            known.set(&name, value);
        }
    }
    let stage = given("TARGETSTAGE").unwrap_or_else(|| target.to_owned());
    known.set("TARGETSTAGE", stage);
    let lexer = Lexer::new(file.directives.escape);
    for instruction in file.globals() {
        let Kind::Arg(items) = &instruction.kind else { continue };
        for item in items {
            let name = &item.name.value;
            let value = match (given(name), &item.default) {
                (Some(value), _) => Some(value),
                (None, None) => None,
                (None, Some(default)) => match lexer.expand(&default.value, &known) {
                    Ok(expansion) => Some(expansion.text),
                    Err(e) => {
                        errors.push(Diagnostic::error(default.span, e.to_string()));
                        None
                    }
                },
            };
            declared.set(name, value.clone());
            if let Some(value) = value {
                known.set(name, value);
            }
        }
    }
    (known, declared)
}

/// The proxy variables of the build, each in both cases.
pub(super) fn proxy(options: &LowerOptions) -> Vec<(String, String)> {
    let mut list = Vec::new();
    for name in PROXIES {
        let given = options.build_args.iter().rev().find(|(k, _)| k.eq_ignore_ascii_case(name));
        let inherited = options.proxy_env.iter().find(|(k, _)| k.eq_ignore_ascii_case(name));
        let value = given.map(|(_, v)| v).or(inherited.map(|(_, v)| v));
        if let Some(value) = value {
            list.push((name.to_ascii_uppercase(), value.clone()));
            list.push((name.to_owned(), value.clone()));
        }
    }
    list
}

/// SOURCE_DATE_EPOCH of the build: the argument's, or that of an ARG before the first FROM.
pub(super) fn epoch(options: &LowerOptions, globals: &Environment) -> Option<String> {
    let given = options.build_args.get(EPOCH).map(String::as_str);
    given.or(globals.get(EPOCH)).map(str::to_owned)
}

/// The build arguments that no ARG of the file or of a trigger names.
pub(super) fn unused(parsed: &Parsed, options: &LowerOptions, plan: &Plan<'_>) -> Vec<String> {
    fn declare<'a>(instruction: &'a Instruction, names: &mut BTreeSet<&'a str>) {
        match &instruction.kind {
            Kind::Arg(items) => names.extend(items.iter().map(|i| i.name.value.as_str())),
            Kind::Onbuild(onbuild) => declare(&onbuild.trigger, names),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    let triggers = plan.stages.iter().flat_map(|s| s.triggers.iter().map(|t| &t.instruction));
    for instruction in parsed.dockerfile.instructions.iter().chain(triggers) {
        declare(instruction, &mut names);
    }
    let predefined = |name: &str| {
        PROXIES.iter().any(|p| p.eq_ignore_ascii_case(name))
            || name == EPOCH
            || name == "TARGETSTAGE"
            || name.starts_with("BUILDKIT_")
            || ["BUILD", "TARGET"].iter().any(|side| {
                let what = name.strip_prefix(side).unwrap_or_default();
                platform_values(&options.platform).iter().any(|(w, _)| *w == what)
            })
    };
    let unused =
        options.build_args.keys().filter(|k| !names.contains(k.as_str()) && !predefined(k));
    unused.cloned().collect()
}

//! Whether the causes that a build tells fit with what was changed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::files::{Entries, What};
use super::line::HIDDEN;
use super::stages::Step;

/// What a build was made of.
#[derive(Clone)]
pub(crate) struct Built {
    /// By place.
    pub(crate) steps: BTreeMap<String, Step>,
    /// Which base image it was.
    pub(crate) image: usize,
    /// What the web server had.
    pub(crate) page: u64,
    /// The rules of what is ignored, of both contexts.
    pub(crate) ignore: [Vec<&'static str>; 2],
    /// Whether the first of them stand beside the Dockerfile.
    pub(crate) beside: bool,
}

/// Two builds that follow each other.
pub(crate) struct Change<'a> {
    pub(crate) old: &'a Built,
    pub(crate) new: &'a Built,
}

/// The place of a step, by its title: `one 2` of `[one 2/5] RUN true`.
pub(crate) fn place(title: &str) -> Option<String> {
    let (stage, rest) = title.strip_prefix('[')?.split_once(' ')?;
    let (number, _) = rest.trim_start().split_once('/')?;
    Some(format!("{stage} {number}"))
}

/// Whether a step is one of the Dockerfile that makes something: none that brings in an image, or
/// puts a layer in its place.
pub(crate) fn is_step(title: &str) -> bool {
    let text = title.split_once("] ").map_or("", |(_, text)| text);
    let text = text.strip_prefix("ONBUILD ").unwrap_or(text);
    ["RUN ", "COPY ", "ADD ", "WORKDIR "].iter().any(|word| text.starts_with(word))
}

fn kind(cause: &Value) -> &str {
    cause["cause"].as_str().unwrap_or_default()
}

fn check(good: bool, cause: &Value) -> Result<(), String> {
    if good { Ok(()) } else { Err(format!("{cause} is not so")) }
}

impl Change<'_> {
    /// What is wrong with the causes that the step at `place` is said to have.
    pub(crate) fn check(&self, place: &str, causes: &[Value]) -> Result<(), String> {
        let step = &self.new.steps[place];
        if causes.is_empty() {
            return Err("no cause".to_owned());
        }
        let same = |other: &&Step| other.stage == step.stage && other.text == step.text;
        let before: Vec<&Step> = self.old.steps.values().filter(same).collect();
        let now = self.new.steps.values().filter(same).count();
        let mut wrong = Vec::new();
        for before in &before {
            match self.compare(before, step, causes) {
                Ok(()) => return Ok(()),
                Err(why) => wrong.push(why),
            }
        }
        // Equal steps of several stages are one: when they part, one of them is new.
        if now > before.len() || self.parts(step) {
            match self.is_new(place, step, causes) {
                Ok(()) => return Ok(()),
                Err(why) => wrong.push(why),
            }
        }
        Err(wrong.join(" | "))
    }

    /// Of a step that was there.
    fn compare(&self, before: &Step, step: &Step, causes: &[Value]) -> Result<(), String> {
        causes.iter().try_for_each(|cause| self.cause(before, step, cause))?;
        let told = |wanted: &str, name: &str| {
            let named = |cause: &Value| name.is_empty() || cause["name"] == name;
            causes.iter().any(|cause| kind(cause) == wanted && named(cause))
        };
        let mut missing = Vec::new();
        if step.text.starts_with("RUN ") {
            let names: BTreeSet<&String> = before.env.keys().chain(step.env.keys()).collect();
            for name in names {
                if before.env.get(name) != step.env.get(name) && !told("variable", name) {
                    missing.push(name.as_str());
                }
            }
            for (name, was, is) in [
                ("the user", &before.user, &step.user),
                ("the working directory", &before.cwd, &step.cwd),
            ] {
                if was != is && !told("setting", name) {
                    missing.push(name);
                }
            }
        }
        if before.reads != step.reads && !(told("files", "") || told("contents", "")) {
            missing.push("files");
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!("nothing is said of {}", missing.join(", "))),
        }
    }

    /// Of a step that is new, or another one than before.
    fn is_new(&self, place: &str, step: &Step, causes: &[Value]) -> Result<(), String> {
        let word = |step: &Step| step.text.split(' ').next().unwrap_or_default().to_owned();
        let alike: Vec<&Step> = self
            .old
            .steps
            .values()
            .filter(|old| old.stage == step.stage && word(old) == word(step))
            .collect();
        let first = &causes[0];
        match (kind(first), causes.len()) {
            ("new-step", 1) => Ok(()),
            ("first-build", 1) => {
                let mut names = self.old.steps.keys().filter_map(|place| place.split(' ').next());
                check(!names.any(|name| place.starts_with(name)), first)
            }
            ("instruction", _) => {
                let mut wrong = format!("{first} is not so");
                for before in alike {
                    match causes[1..].iter().try_for_each(|it| self.cause(before, step, it)) {
                        Ok(()) => return Ok(()),
                        Err(why) => wrong = why,
                    }
                }
                Err(wrong)
            }
            _ => Err(format!("it is new, and not as {first} says")),
        }
    }

    /// Whether one cause is right.
    fn cause(&self, before: &Step, step: &Step, cause: &Value) -> Result<(), String> {
        let text = |name: &str| cause[name].as_str().map(str::to_owned);
        let titled = |steps: &'_ BTreeMap<String, Step>| titled_of(steps, text("step"));
        let count = |built: &Built, of: &Step| {
            built.steps.values().filter(|it| it.text == of.text && it.stage == of.stage).count()
        };
        let good = match kind(cause) {
            "variable" => {
                let name = text("name").unwrap_or_default();
                let (was, is) = (before.env.get(&name), step.env.get(&name));
                let hidden = name == HIDDEN;
                let values = (text("old"), text("new")) == (was.cloned(), is.cloned());
                was != is && (hidden || values) && cause["hidden"] == hidden
            }
            "setting" => match text("name").unwrap_or_default().as_str() {
                "the user" => before.user != step.user,
                "the working directory" => before.cwd != step.cwd,
                "the command" => before.shell != step.shell,
                "the order of variables" => before.order != step.order,
                "a here-document" => before.env != step.env,
                "the directory" => before.user != step.user,
                _ => false,
            },
            "files" => return self.files(before, step, cause),
            "contents" => !step.listed && before.reads != step.reads,
            "image" => self.old.image != self.new.image && step.image,
            "input" => titled(&self.new.steps).is_some_and(|named| {
                let mut inputs = before.inputs.iter().map(|place| &self.old.steps[place]);
                let known = inputs.any(|old| old.made == named.made);
                self.works_on(self.new, step, &named) && !known
            }),
            "after-new" => titled(&self.new.steps).is_some_and(|named| {
                let more = count(self.new, &named) > count(self.old, &named) || self.parts(&named);
                self.works_on(self.new, step, &named) && more
            }),
            "after-removed" => titled(&self.old.steps).is_some_and(|named| {
                let less = count(self.new, &named) < count(self.old, &named);
                self.works_on(self.old, before, &named) && less
            }),
            "moved" => {
                let was = titled_of(&self.old.steps, text("before"));
                let is = titled(&self.new.steps);
                // Another one may be an image.
                let from = was.is_none_or(|named| self.works_on(self.old, before, &named));
                let to = is.is_none_or(|named| self.works_on(self.new, step, &named));
                from && to && before.key != step.key
            }
            _ => false,
        };
        check(good, cause)
    }

    /// Whether a step was one with an equal one of another stage, and may be none any more.
    fn parts(&self, named: &Step) -> bool {
        let same = |it: &&Step| it.stage == named.stage && it.text == named.text;
        let other = |one: &Step| {
            self.old.steps.values().any(|it| it.stage != one.stage && it.key == one.key)
        };
        self.old.steps.values().filter(same).any(other)
    }

    /// Whether a step works on what another one made. Equal steps are one.
    fn works_on(&self, built: &Built, step: &Step, named: &Step) -> bool {
        step.inputs.iter().any(|place| built.steps[place].key == named.key)
    }

    fn files(&self, before: &Step, step: &Step, cause: &Value) -> Result<(), String> {
        let text = |name: &str| cause[name].as_str().unwrap_or_default();
        let path = text("path");
        let (Some(was), Some(is)) = (&before.reads, &step.reads) else {
            // What is in a stage is known to the build only.
            let web = step.text.contains("http://");
            let stage = !web && step.text.contains("from=");
            let page = web && path == "f" && self.old.page != self.new.page;
            return check(stage || page, cause);
        };
        let (old, new) = (was.get(path), is.get(path));
        let renamed = || is.contains_key(text("new")) && !was.contains_key(text("new"));
        let told = (text("old"), text("new"));
        let octal = |mode: u32| format!("{mode:04o}");
        let good = match (text("change"), old, new) {
            ("added", None, Some(_)) | ("removed", Some(_), None) => true,
            ("renamed", Some(_), None) => renamed(),
            (change, Some(old), Some(new)) => {
                let wanted = difference(path, old, new);
                let modes = match (old, new) {
                    (What::File { mode: a, .. } | What::Dir(a), What::File { mode: b, .. })
                    | (What::Dir(a), What::Dir(b)) => told == (&octal(*a), &octal(*b)),
                    _ => false,
                };
                change == wanted && (change != "mode" || modes)
            }
            _ => false,
        };
        check(good && counts(cause, was, is) && self.ignores(step, cause), cause)
    }

    /// Whether it is told that the rules of what is ignored changed, and only if they did.
    fn ignores(&self, step: &Step, cause: &Value) -> bool {
        let at = usize::from(step.text.contains("from=extra"));
        let moved = at == 0 && self.old.beside != self.new.beside;
        moved || cause["ignore"] == (self.old.ignore[at] != self.new.ignore[at])
    }
}

/// The step of a title.
fn titled_of(steps: &BTreeMap<String, Step>, title: Option<String>) -> Option<Step> {
    title.and_then(|title| steps.get(&place(&title)?).cloned())
}

/// Whether the number of files is one that can be.
fn counts(cause: &Value, was: &Entries, is: &Entries) -> bool {
    let removed = was.keys().filter(|path| !is.contains_key(*path)).count();
    let added = is.keys().filter(|path| !was.contains_key(*path)).count();
    let both = was.iter().filter_map(|(path, old)| Some((path, old, is.get(path)?)));
    let changed = both.filter(|(path, old, new)| !difference(path, old, new).is_empty()).count();
    let told = 1 + cause["more"].as_u64().unwrap_or_default() as usize;
    (changed + removed.max(added)..=changed + removed + added).contains(&told)
}

/// What of two entries is told to differ; nothing if they are the same.
fn difference(path: &str, old: &What, new: &What) -> &'static str {
    let first = |group: &String| group == path;
    match (old, new) {
        (What::Dir(was), What::Dir(is)) if was == is => "",
        (What::Dir(_), What::Dir(_)) => "mode",
        (What::Link(was), What::Link(is)) if was == is => "",
        (What::Link(_), What::Link(_)) => "target",
        (
            What::File { mode, content, group },
            What::File { mode: new_mode, content: new_content, group: new_group },
        ) => match (first(group), first(new_group)) {
            (true, true) if content != new_content => "content",
            (false, false) if group != new_group => "target",
            (true, true) | (false, false) if mode != new_mode => "mode",
            (true, true) | (false, false) => "",
            _ => "kind",
        },
        _ => "kind",
    }
}

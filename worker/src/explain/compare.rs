//! Why a step has no result: its note beside that of the last build. Pure.

use std::collections::HashMap;

use cache::Tombstone;
use serde_json::Value;

use super::cause::{Cause, FileChange};
use super::note::{Note, Part};
use super::secret;

/// A changed text is shown with this many characters around the change.
const WINDOW: usize = 60;

/// Parts that stand in the text of an instruction.
const WRITTEN: [&str; 17] = [
    "run", "paths", "copy to", "files", "file", "mkdir", "chown", "chmod", "parents", "mount",
    "network", "security", "device", "source", "unpack", "replace", "times",
];

/// Words of an instruction that say what it takes, which a key has only by its content.
const TAKES: [&str; 2] = ["--from=", "--mount="];

/// Parts that are found out when the inputs are there.
const FOUND: [&str; 2] = ["times", "device found"];

/// What is compared.
pub(super) struct Case<'a> {
    /// The steps of this build, by vertex; the one in question is described.
    pub(super) new: &'a [Note],
    /// Those of the last one; none if there is no last one.
    pub(super) old: Option<&'a [Note]>,
    /// For each new step the old one that it was.
    pub(super) pairs: &'a [Option<usize>],
    /// What makes the step run whatever else there is.
    pub(super) forced: Option<Cause>,
    /// What else there is if the result is there, and too old.
    pub(super) expired: Option<Cause>,
    /// What became of the result.
    pub(super) evicted: Option<&'a Tombstone>,
    /// How two selections differ; none where that is not known.
    pub(super) files: &'a dyn Fn(&Part, &Part) -> Option<Vec<FileChange>>,
}

impl Case<'_> {
    /// Why step `at` runs: at least one cause, the most telling one first.
    pub(super) fn causes(&self, at: usize) -> Vec<Cause> {
        if let Some(forced) = &self.forced {
            return vec![forced.clone()];
        }
        if let Some(stone) = self.evicted {
            return vec![Cause::Evicted { at: stone.at, rule: stone.rule.clone() }];
        }
        let Some(old) = self.old else { return vec![Cause::FirstBuild] };
        let new = &self.new[at];
        let Some(before) = self.pairs[at].map(|o| &old[o]) else {
            let known = old.iter().any(|note| note.stage == new.stage && !note.key.is_empty());
            return vec![if known { Cause::NewStep } else { Cause::FirstBuild }];
        };
        if before.key.is_empty() {
            return vec![Cause::FirstBuild];
        }
        if before.key == new.key {
            return vec![match (&self.expired, before.made) {
                (_, false) => Cause::Unfinished,
                (Some(expired), true) => expired.clone(),
                (None, true) => Cause::Lost,
            }];
        }
        let causes = self.differences(old, before, new);
        if causes.is_empty() { vec![Cause::Builder] } else { causes }
    }

    /// Why the step runs whatever its inputs are, which need not be known; nothing where that depends
    /// on them.
    pub(super) fn anyway(&self, at: usize) -> Vec<Cause> {
        if let Some(forced) = &self.forced {
            return vec![forced.clone()];
        }
        let Some(old) = self.old else { return vec![Cause::FirstBuild] };
        match self.pairs[at].map(|o| &old[o]) {
            Some(before) if !before.key.is_empty() => {
                own(before, &self.new[at], |part| !FOUND.contains(&part.name.as_str()))
            }
            _ => self.causes(at),
        }
    }

    fn differences(&self, old: &[Note], before: &Note, new: &Note) -> Vec<Cause> {
        let mut causes = own(before, new, |_| true);
        if let (Some(was), Some(is)) = (&before.image, &new.image)
            && was.digest != is.digest
        {
            causes.push(image(was, is));
        }
        let rewritten = before.text != new.text && new.image.is_none();
        let takes_other = rewritten && takes(&before.text) != takes(&new.text);
        let other_paths = named(before, "paths") != named(new, "paths");
        let mut inputs = pairs(before, new, is_input);
        // What a step takes says more than what it stands on.
        inputs.sort_by_key(|(was, is)| !was.or(*is).is_some_and(|part| part.selection));
        for (was, is) in inputs {
            let stands_on = was.or(is).is_some_and(|part| matches!(&*part.name, "root" | "base"));
            let told = matches!(causes.first(), Some(Cause::Instruction { .. }));
            // What another source has says nothing more.
            if takes_other && !stands_on && !self.is_same_source(was, is) {
                if !told {
                    let (old, new) = difference(&before.text, &new.text);
                    causes.insert(0, Cause::Instruction { old, new });
                }
                continue;
            }
            if told && stands_on && self.begins_or_ends(was, is) {
                continue;
            }
            for cause in self.input(old, was, is) {
                let follows = matches!(cause, Cause::Files { .. } | Cause::Contents);
                let told = other_paths && follows || causes.contains(&cause);
                if !told {
                    causes.push(cause);
                }
            }
        }
        causes
    }

    /// Whether two inputs are from the same place of the same step.
    fn is_same_source(&self, was: Option<&Part>, is: Option<&Part>) -> bool {
        let (Some(was), Some(is)) = (was, is) else { return false };
        let step = is.from.and_then(|n| self.pairs.get(n).copied().flatten());
        step == was.from && was.path == is.path
    }

    /// Whether a step stands on another that it did not stand on, or no longer does, though that was
    /// there and is: another instruction does that (`--link`).
    fn begins_or_ends(&self, was: Option<&Part>, is: Option<&Part>) -> bool {
        let from = |part: Option<&Part>| part.and_then(|part| part.from);
        match (from(was), from(is)) {
            (None, Some(n)) => self.pairs.get(n).is_some_and(Option::is_some),
            (Some(o), None) => self.pairs.contains(&Some(o)),
            _ => false,
        }
    }

    fn input(&self, old: &[Note], was: Option<&Part>, is: Option<&Part>) -> Vec<Cause> {
        let from_old = was.and_then(|part| part.from).filter(|o| *o < old.len());
        let from_new = is.and_then(|part| part.from).filter(|n| *n < self.new.len());
        let mut causes = Vec::new();
        if let (Some(was), Some(is)) = (was, is)
            && (was.selection || is.selection)
        {
            let changed = (self.files)(was, is).and_then(|changes| {
                let more = changes.len().saturating_sub(1);
                let first = changes.into_iter().next()?;
                let lists = |o: usize, n: usize| (&old[o].ignore, &self.new[n].ignore);
                let ignore = from_old.zip(from_new).is_some_and(|(o, n)| {
                    let (was, is) = lists(o, n);
                    was != is
                });
                Some(Cause::Files { first, more, ignore })
            });
            causes.push(changed.unwrap_or(Cause::Contents));
        } else if let (Some(o), Some(n)) = (from_old, from_new)
            && is_given(&old[o])
            && is_given(&self.new[n])
        {
            // A mount that can be written to takes all there is, and keeps no list of it.
            causes.push(Cause::Contents);
        }
        let (o, n) = match (from_old, from_new) {
            (Some(o), Some(n)) => (o, n),
            (None, Some(n)) => {
                causes.push(Cause::AfterNew { step: self.new[n].title.clone() });
                return causes;
            }
            // A context that is no longer used is none of the steps.
            (Some(o), None) if is_given(&old[o]) => return causes,
            (Some(o), None) => {
                causes.push(Cause::AfterRemoved { step: old[o].title.clone() });
                return causes;
            }
            (None, None) => return causes,
        };
        causes.extend(self.step(old, o, n));
        causes
    }

    /// What happened to the step that an input is the result of.
    fn step(&self, old: &[Note], o: usize, n: usize) -> Option<Cause> {
        let (was, is) = (&old[o], &self.new[n]);
        if let (Some(was), Some(is)) = (&was.image, &is.image) {
            return (was.digest != is.digest).then(|| image(was, is));
        }
        // What a context holds is told by its files.
        if is_given(is) {
            return None;
        }
        let step = is.title.clone();
        // Equal steps of several stages are one: they part, or become one.
        let alike = was.kind == is.kind && was.text == is.text && was.body == is.body;
        let before = was.title.clone();
        Some(match self.pairs[n] {
            Some(paired) if paired == o => Cause::Input { step },
            _ if alike => Cause::Moved { step, before },
            None => Cause::AfterNew { step },
            Some(_) if is_given(was) => Cause::AfterNew { step },
            Some(_) if self.pairs.contains(&Some(o)) => Cause::Moved { step, before },
            Some(_) => Cause::AfterRemoved { step: before },
        })
    }
}

fn image(was: &super::note::ImageNote, is: &super::note::ImageNote) -> Cause {
    Cause::Image {
        old: was.name.clone(),
        new: is.name.clone(),
        old_digest: was.digest.clone(),
        new_digest: is.digest.clone(),
    }
}

/// Whether a step is a context, or a file from elsewhere: what is there without being made.
fn is_given(note: &Note) -> bool {
    note.kind == "source" && note.key.is_empty() && note.image.is_none()
}

/// The words of an instruction that say what it takes.
fn takes(text: &str) -> Vec<&str> {
    let words = text.split_whitespace();
    words.filter(|word| TAKES.iter().any(|flag| word.starts_with(flag))).collect()
}

fn is_input(part: &Part) -> bool {
    part.from.is_some()
        || part.selection
        || matches!(
            part.name.as_str(),
            "root" | "cache" | "bind" | "content" | "base" | "layer" | "image"
        )
}

fn named<'a>(note: &'a Note, name: &str) -> Vec<&'a str> {
    note.parts.iter().filter(|p| p.name == name).map(|p| p.value.as_str()).collect()
}

/// Pairs of parts with the same name, of those that differ, in the order of the newer.
fn pairs<'a>(
    old: &'a Note,
    new: &'a Note,
    wanted: impl Fn(&Part) -> bool,
) -> Vec<(Option<&'a Part>, Option<&'a Part>)> {
    let mut by_name: HashMap<&str, Vec<&Part>> = HashMap::new();
    for part in old.parts.iter().rev().filter(|p| wanted(p)) {
        by_name.entry(&part.name).or_default().push(part);
    }
    let mut found = Vec::new();
    for part in new.parts.iter().filter(|p| wanted(p)) {
        let before = by_name.get_mut(part.name.as_str()).and_then(Vec::pop);
        if before.is_none_or(|before| before.value != part.value) {
            found.push((before, Some(part)));
        }
    }
    let mut left = by_name;
    for part in old.parts.iter().filter(|p| wanted(p)) {
        let gone = left.get_mut(part.name.as_str()).is_some_and(|parts| {
            let found = parts.iter().position(|p| std::ptr::eq(*p, part));
            found.map(|at| parts.remove(at)).is_some()
        });
        if gone {
            found.push((Some(part), None));
        }
    }
    found
}

/// What differs in what a step was told, not in what it works on; only of the parts that are
/// `known`.
fn own(old: &Note, new: &Note, known: impl Fn(&Part) -> bool) -> Vec<Cause> {
    let mut causes = Vec::new();
    // The text of an image's instruction is its name.
    let rewritten = old.text != new.text && new.image.is_none();
    let told = |part: &Part| !is_input(part) && known(part);
    let parts = pairs(old, new, told);
    let written = |name: &str| WRITTEN.contains(&name);
    let any = parts.iter().any(|(was, is)| was.or(*is).is_some_and(|p| written(&p.name)));
    if rewritten && any {
        let (old, new) = difference(&old.text, &new.text);
        causes.push(Cause::Instruction { old, new });
    }
    for (was, is) in parts {
        let Some(name) = was.or(is).map(|part| part.name.as_str()) else { continue };
        if !(rewritten && written(name)) {
            causes.push(own_part(name, was, is));
        }
    }
    let order = |note: &'_ Note| -> Vec<String> {
        note.parts.iter().filter(|part| told(part)).map(|part| part.name.clone()).collect()
    };
    if causes.is_empty() && order(old) != order(new) {
        let name = "the order of variables".to_owned();
        causes.push(Cause::Setting { name, old: None, new: None });
    }
    causes
}

fn own_part(name: &str, was: Option<&Part>, is: Option<&Part>) -> Cause {
    let (old, new) = (was.map(|p| p.value.as_str()), is.map(|p| p.value.as_str()));
    if let Some(variable) = name.strip_prefix("env ") {
        let hidden = [old, new].into_iter().flatten().any(|v| secret::is_secret(variable, v));
        let shown = |value: Option<&str>| {
            value.map(|v| if hidden { secret::HIDDEN.to_owned() } else { v.to_owned() })
        };
        let (old, new) = match (hidden, old, new) {
            (false, Some(old), Some(new)) => {
                let (old, new) = difference(old, new);
                (Some(old), Some(new))
            }
            _ => (shown(old), shown(new)),
        };
        return Cause::Variable { name: variable.to_owned(), hidden, old, new };
    }
    if name == "mkdir"
        && let (Some(was), Some(is)) = (old.and_then(directory), new.and_then(directory))
        && was.0 == is.0
    {
        let label = format!("the owner of the directory {}", is.0);
        return Cause::Setting { name: label, old: Some(was.1), new: Some(is.1) };
    }
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => {
            let (old, new) = difference(&plain(old), &plain(new));
            (Some(old), Some(new))
        }
        (old, new) => {
            let cut = |v: &str| difference(&secret::shown(&plain(v)), "").0;
            (old.map(cut), new.map(cut))
        }
    };
    Cause::Setting { name: label(name).to_owned(), old, new }
}

/// What a value says to people, who wrote it in another form.
fn plain(value: &str) -> String {
    match serde_json::from_str(value) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(all)) => {
            let text = ["data", "path", "symbolic"].iter().find_map(|key| all.get(*key)?.as_str());
            match (text, all.get("octal").and_then(Value::as_u64)) {
                (Some(text), _) => text.to_owned(),
                (None, Some(mode)) => format!("{mode:04o}"),
                (None, None) => value.to_owned(),
            }
        }
        Ok(Value::Array(all)) => {
            let words: Vec<String> = all.iter().map(|one| plain(&one.to_string())).collect();
            words.join(" ")
        }
        _ => value.to_owned(),
    }
}

/// The path of a directory that is made, and its owner.
fn directory(value: &str) -> Option<(String, String)> {
    let value: Value = serde_json::from_str(value).ok()?;
    let user = value["user"].as_str().filter(|user| !user.is_empty()).unwrap_or("root");
    Some((value["path"].as_str()?.to_owned(), user.to_owned()))
}

/// What people call a part of a key.
fn label(name: &str) -> &str {
    match name {
        "run" => "the command",
        "cwd" => "the working directory",
        "user" => "the user",
        "network" => "the network",
        "security" => "the security mode",
        "hostname" => "the host name",
        "host" => "an extra host",
        "platform" => "the platform",
        "mount" => "a mount",
        "file" | "files" => "a here-document",
        "device" | "device found" => "a device",
        "mkdir" => "the directory",
        "copy to" => "the destination",
        "paths" => "the source",
        "chown" => "the owner",
        "chmod" => "the mode",
        "times" => "the treatment of times",
        "unpack" => "the unpacking of archives",
        "git" => "the commit",
        other => other,
    }
}

/// The lines in which two texts differ first, shortened around the difference.
fn difference(old: &str, new: &str) -> (String, String) {
    let (old, new) = (secret::shown(old), secret::shown(new));
    if old == new {
        return (secret::HIDDEN.to_owned(), secret::HIDDEN.to_owned());
    }
    let mut pairs = old.lines().zip(new.lines());
    let same = pairs.position(|(a, b)| a != b);
    let at = same.unwrap_or_else(|| old.lines().count().min(new.lines().count()));
    let (a, b) = (old.lines().nth(at).unwrap_or(""), new.lines().nth(at).unwrap_or(""));
    let common = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let first = common.saturating_sub(WINDOW / 2);
    let cut = |line: &str| {
        let length = line.chars().count();
        let start = if length <= WINDOW { 0 } else { first.min(length) };
        let part: String = line.chars().skip(start).take(WINDOW).collect();
        let before = if start > 0 { "…" } else { "" };
        let after = if start + part.chars().count() < length { "…" } else { "" };
        let part = part.trim_end_matches(['\\', ' ']);
        format!("{before}{}{after}", part.trim())
    };
    (cut(a), cut(b))
}

//! Action keys: what an op and its inputs are, as one digest and as readable lines.

use std::sync::Arc;

use graph::{CopySource, ExecMount, ExecOp, FileAction, FileOp, MountKind, Op};
use solver::{ActionKey, ContentId, KeyBuilder};

use crate::explain::FileEntry;
use crate::output::Rewrite;

/// Changes whenever the meaning of an op or the encoding of a key does.
const DOMAIN: &str = "action/v1";

/// The entries of a selection, listed when somebody asks.
pub(crate) type List = Arc<dyn Fn() -> Vec<FileEntry> + Send + Sync>;

/// A part of a key, readable.
pub(crate) struct Line {
    /// What it tells of.
    pub(crate) name: String,
    /// What it says.
    pub(crate) value: String,
    /// The position of the input that it tells of.
    pub(crate) input: Option<usize>,
    /// What a selection is the digest of.
    pub(crate) list: Option<List>,
    /// Of a bind mount: the path in its source, which is no part of the key.
    pub(crate) path: Option<String>,
}

/// Collects a key and, with the same calls, the lines that explain it: the two cannot drift
/// apart.
pub(crate) struct Description {
    key: KeyBuilder,
    lines: Vec<Line>,
}

impl Description {
    /// Starts with what `op` says itself.
    pub(crate) fn of(op: &Op) -> Self {
        let mut description = Self { key: KeyBuilder::new(DOMAIN), lines: Vec::new() };
        match op {
            Op::Exec(exec) => description.exec(exec),
            Op::File(file) => description.file(file),
            Op::Source(source) => {
                description.line("source", &to_json(source));
            }
            // What its inputs are says all.
            Op::Merge(_) => description.line("merge", ""),
        }
        description
    }

    /// Starts the key of a source that has nothing but its content.
    pub(crate) fn of_source() -> Self {
        Self { key: KeyBuilder::new(DOMAIN), lines: Vec::new() }
    }

    /// Adds an input that is a whole result.
    pub(crate) fn input(&mut self, name: &str, content: Option<&ContentId>) {
        let text = content.map_or_else(|| "empty".to_owned(), ToString::to_string);
        self.line(name, &text);
    }

    /// Adds a named part.
    pub(crate) fn line(&mut self, name: &str, value: &str) {
        self.key.part(name.as_bytes()).part(value.as_bytes());
        let (name, value) = (name.to_owned(), value.to_owned());
        self.lines.push(Line { name, value, input: None, list: None, path: None });
    }

    /// Says which input, by position, the last line tells of, and what it selects there.
    pub(crate) fn about(&mut self, input: Option<usize>, list: Option<List>) {
        if let Some(line) = self.lines.last_mut() {
            line.input = input;
            line.list = list;
        }
    }

    /// Says where in its input the last line's selection begins.
    pub(crate) fn at(&mut self, path: &str) {
        if let Some(line) = self.lines.last_mut() {
            line.path = Some(path.to_owned());
        }
    }

    /// The key and its lines.
    pub(crate) fn finish(self) -> (ActionKey, Vec<Line>) {
        (self.key.action_key(), self.lines)
    }

    /// Everything of an exec op but what must not count: addresses of extra hosts, proxy
    /// variables, and what a cache mount holds (BuildKit: `ops/exec.go`, `CacheMap`).
    fn exec(&mut self, op: &ExecOp) {
        self.line("run", &to_json(&op.args));
        for (name, value) in &op.env {
            self.line(&format!("env {name}"), value);
        }
        self.line("cwd", &op.cwd);
        self.line("user", &op.user);
        self.line("network", &to_json(&op.network));
        self.line("security", &to_json(&op.security));
        self.line("hostname", &op.hostname);
        for (name, _) in &op.extra_hosts {
            self.line("host", name);
        }
        self.line("platform", &op.platform.to_string());
        for mount in &op.mounts {
            self.line("mount", &shape(mount));
        }
        for file in &op.files {
            self.line("file", &to_json(file));
        }
        for device in &op.devices {
            self.line("device", &to_json(device));
        }
    }

    fn file(&mut self, op: &FileOp) {
        for action in &op.actions {
            match action {
                FileAction::Mkdir(mkdir) => self.line("mkdir", &to_json(mkdir)),
                FileAction::Copy(copy) => {
                    self.line("copy to", &copy.dest);
                    self.line("chown", &to_json(&copy.owner));
                    self.line("chmod", &to_json(&copy.mode));
                    self.line("unpack", &to_json(&copy.unpack));
                    self.line("parents", &to_json(&copy.parents));
                    self.line("replace", &to_json(&copy.replace));
                    match &copy.source {
                        // What an input gives is told by the digest of the selection: names
                        // of positions and contexts would only make equal things differ.
                        CopySource::Input { paths, .. } => self.line("paths", &to_json(paths)),
                        CopySource::Inline(files) => self.line("files", &to_json(files)),
                    }
                }
            }
        }
    }
}

/// What of a mount counts besides what it shows: never the value of a secret, nor the id, the
/// sharing or the contents of a cache mount (BuildKit: `ops/exec.go`, `CacheMap`).
fn shape(mount: &ExecMount) -> String {
    let target = &mount.target;
    let access = |writable: bool| if writable { "rw" } else { "ro" };
    // A result that was made without it is none of a step that requires it.
    let must = |required: bool| if required { " required" } else { "" };
    match &mount.kind {
        MountKind::Bind { writable, .. } => format!("bind {target} {}", access(*writable)),
        MountKind::Cache { read_only, .. } => format!("cache {target} {}", access(!read_only)),
        MountKind::Tmpfs { size, read_only } => {
            let rest = if *read_only { " ro" } else { "" };
            format!("tmpfs {target} {}{rest}", size.unwrap_or_default())
        }
        MountKind::Secret { id, env, file, required, mode, uid, gid } => {
            let env = env.as_deref().unwrap_or_default();
            let rest = must(*required);
            format!("secret {id} {target} {file} {env} {mode:o} {uid} {gid}{rest}")
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            format!("ssh {id} {target} {mode:o} {uid} {gid}{}", must(*required))
        }
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("an op has only string keys")
}

/// The identity of an empty root file system.
pub(crate) fn empty_content() -> ContentId {
    KeyBuilder::new("content/empty").content_id()
}

/// The identity of a pulled image's root file system: its chain of diff ids.
pub(crate) fn image_content(diff_ids: &[oci::Digest]) -> ContentId {
    if diff_ids.is_empty() {
        return empty_content();
    }
    let mut key = KeyBuilder::new("content/image");
    for id in diff_ids {
        key.part(id.as_bytes());
    }
    key.content_id()
}

/// The identity of a step's result: what it was made on, the normalised diff, and what becomes of
/// its times. Were the last left out, a COPY and a RUN that make the same files would share one
/// making, and which of them came first would decide about the times in an image.
pub(crate) fn step_content(
    parent: &ContentId,
    diff_digest: &[u8; 32],
    rewrite: Rewrite,
) -> ContentId {
    let mut key = KeyBuilder::new("content/step");
    key.part(parent.as_bytes()).part(diff_digest).part(rewrite.word().as_bytes());
    key.content_id()
}

/// The identity of a layer on top of another root file system than that it was made on. Not the one
/// that a step has which makes the same files there: the makings of one identity differ in times,
/// and a linked layer, with all that is made on it, must be the same layer on every base.
pub(crate) fn linked_content(
    base: &ContentId,
    diff_digest: &[u8; 32],
    rewrite: Rewrite,
) -> ContentId {
    let mut key = KeyBuilder::new("content/linked");
    key.part(base.as_bytes()).part(diff_digest).part(rewrite.word().as_bytes());
    key.content_id()
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::{NetworkMode, SecurityMode};
    use oci::Platform;

    fn exec() -> ExecOp {
        ExecOp {
            root: None,
            args: vec!["/bin/sh".into(), "-c".into(), "true".into()],
            env: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
            proxy_env: vec![],
            cwd: "/".into(),
            user: String::new(),
            network: NetworkMode::Default,
            security: SecurityMode::Sandbox,
            hostname: "drydock".into(),
            extra_hosts: vec![("db".into(), "10.0.0.1".into())],
            platform: Platform::host(),
            mounts: vec![],
            files: vec![],
            devices: vec![],
        }
    }

    fn key(change: impl FnOnce(&mut ExecOp)) -> ActionKey {
        let mut op = exec();
        change(&mut op);
        Description::of(&Op::Exec(op)).finish().0
    }

    #[test]
    fn what_counts_in_an_exec() {
        let base = key(|_| {});
        assert_eq!(base, key(|op| op.proxy_env.push(("HTTP_PROXY".into(), "x".into()))));
        assert_eq!(base, key(|op| op.extra_hosts[0].1 = "10.0.0.2".into()));
        for different in [
            key(|op| op.extra_hosts[0].0 = "other".into()),
            key(|op| op.env.swap(0, 1)),
            key(|op| op.env[0].1 = "3".into()),
            key(|op| op.user = "app".into()),
            key(|op| op.cwd = "/app".into()),
            key(|op| op.hostname = "h".into()),
            key(|op| op.network = NetworkMode::None),
            key(|op| op.network = NetworkMode::Isolated),
            key(|op| op.args[2].push(' ')),
            key(|op| op.platform.variant = Some("v3".into())),
            key(|op| {
                let kind = MountKind::Tmpfs { size: None, read_only: false };
                op.mounts.push(ExecMount { target: "/t".into(), kind });
            }),
        ] {
            assert_ne!(base, different);
        }
    }
}

//! `RUN --mount` and `RUN --device`: from fields to the mounts of an exec op.

use std::path::Path;

use graph::{ExecDevice, ExecMount, MountKind, VertexIndex};

use super::metadata::join;
use super::stage::{StageLowering, Step, fail};
use crate::Diagnostic;
use crate::ast::{Instruction, Mount, MountOptions, MountType, Run, Word};

/// Where a secret appears that names no target.
const SECRETS: &str = "/run/secrets";
/// Where the first ssh agent appears; the others count on.
const SSH_AGENT: &str = "/run/buildkit/ssh_agent.";
/// What tells a process where its ssh agent is.
const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";
/// The build argument whose value comes before the id of every cache mount.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";
const SECRET_MODE: u32 = 0o400;
const SOCKET_MODE: u32 = 0o600;

/// What the flags of a RUN add to its op.
#[derive(Default)]
pub(super) struct Mounts {
    /// A parent stands before what is mounted in it.
    pub(super) list: Vec<ExecMount>,
    /// The vertices that mounts show, after the root's.
    pub(super) inputs: Vec<VertexIndex>,
    /// What mounts add to the environment.
    pub(super) env: Vec<(String, String)>,
}

impl Mounts {
    /// The position of a vertex among the inputs of the op; `first` is that of the first mount's.
    fn input(&mut self, vertex: VertexIndex, first: usize) -> usize {
        let at = self.inputs.iter().position(|v| *v == vertex).unwrap_or_else(|| {
            self.inputs.push(vertex);
            self.inputs.len() - 1
        });
        first + at
    }
}

impl StageLowering<'_, '_> {
    /// The mounts of `run`.
    pub(super) fn mounts(&mut self, instruction: &Instruction, run: &Run) -> Step<Mounts> {
        let mut mounts = Mounts::default();
        let first = usize::from(self.state.root.is_some());
        let mut agents = 0;
        for mount in &run.mounts {
            let options = self.mount_options(instruction, mount)?;
            if options.kind == MountType::Ssh {
                self.ssh(&options, agents, &mut mounts);
                agents += 1;
                continue;
            }
            let (target, kind) = match options.kind {
                MountType::Secret => self.secret(mount, &options)?,
                MountType::Tmpfs => {
                    let (size, read_only) = (options.size, options.read_only);
                    (self.target(mount, &options)?, MountKind::Tmpfs { size, read_only })
                }
                MountType::Cache => {
                    let kind = self.cache(mount, &options, first, &mut mounts);
                    (self.target(mount, &options)?, kind)
                }
                MountType::Bind | MountType::Ssh => {
                    let origin = self.origin(mount.from().map(|from| from.span));
                    let kind = MountKind::Bind {
                        input: origin.vertex.map(|vertex| mounts.input(vertex, first)),
                        source: inside(options.source.as_deref()),
                        writable: !options.read_only,
                    };
                    (self.target(mount, &options)?, kind)
                }
            };
            mounts.list.push(ExecMount { target, kind });
        }
        mounts.list.sort_by(|a, b| Path::new(&a.target).cmp(Path::new(&b.target)));
        Ok(mounts)
    }

    /// The fields of a mount, their variables expanded.
    fn mount_options(&mut self, instruction: &Instruction, mount: &Mount) -> Step<MountOptions> {
        let resolved = mount.resolve(&mut |text| {
            let word = Word { value: text.to_owned(), span: mount.span };
            self.expand(instruction, &word).map_err(|error| error.message)
        });
        resolved.map_err(Box::new)
    }

    fn target(&self, mount: &Mount, options: &MountOptions) -> Step<String> {
        let written = options.target.as_deref().unwrap_or_default();
        let target = join(&self.state.config.working_dir, written);
        if target == "/" {
            return fail(mount.span, format!("invalid mount target {written:?}: it is the root"));
        }
        Ok(target)
    }

    fn cache(
        &mut self,
        mount: &Mount,
        options: &MountOptions,
        first: usize,
        mounts: &mut Mounts,
    ) -> MountKind {
        let written = options.target.as_deref().unwrap_or_default();
        let id = options.id.clone().filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| graph::pattern::clean(written));
        let namespace = self.all.options.build_args.get(CACHE_NAMESPACE);
        let id = namespace.map_or(id.clone(), |namespace| format!("{namespace}/{id}"));
        let input = mount.from().and_then(|from| {
            let origin = self.origin(Some(from.span));
            origin.vertex.map(|vertex| mounts.input(vertex, first))
        });
        MountKind::Cache {
            id,
            sharing: options.sharing.unwrap_or_default(),
            commit: options.commit.unwrap_or_default(),
            input,
            source: inside(options.source.as_deref()),
            mode: options.mode,
            uid: options.uid.unwrap_or_default(),
            gid: options.gid.unwrap_or_default(),
            read_only: options.read_only,
        }
    }

    fn secret(&self, mount: &Mount, options: &MountOptions) -> Step<(String, MountKind)> {
        let target = options.target.as_deref().filter(|t| !t.is_empty());
        let id = options.id.as_deref().or(options.source.as_deref()).filter(|id| !id.is_empty());
        let Some(id) = id.or(target.map(base_name)) else {
            return fail(mount.span, "a secret needs an id, a source or a target");
        };
        let path = match target {
            Some(target) => join(&self.state.config.working_dir, target),
            None => format!("{SECRETS}/{}", base_name(id)),
        };
        let kind = MountKind::Secret {
            id: id.to_owned(),
            env: options.env.clone(),
            // A variable alone leaves no file.
            file: options.env.is_none() || target.is_some(),
            required: options.required,
            mode: options.mode.unwrap_or(SECRET_MODE),
            uid: options.uid.unwrap_or_default(),
            gid: options.gid.unwrap_or_default(),
        };
        Ok((path, kind))
    }

    fn ssh(&self, options: &MountOptions, number: usize, mounts: &mut Mounts) {
        let written = options.target.as_deref().filter(|t| !t.is_empty());
        let target = match written {
            Some(written) => join(&self.state.config.working_dir, written),
            None => format!("{SSH_AGENT}{number}"),
        };
        let known = mounts.env.iter().map(|(name, _)| name.as_str());
        let known = known.chain(self.state.env.names()).any(|name| name == SSH_AUTH_SOCK);
        if !known {
            mounts.env.push((SSH_AUTH_SOCK.to_owned(), target.clone()));
        }
        let kind = MountKind::Ssh {
            id: options.id.clone().unwrap_or_else(|| "default".to_owned()),
            required: options.required,
            mode: options.mode.unwrap_or(SOCKET_MODE),
            uid: options.uid.unwrap_or_default(),
            gid: options.gid.unwrap_or_default(),
        };
        mounts.list.push(ExecMount { target, kind });
    }
}

/// Reads `--device=NAME[,required]`, as a list of fields like those of a mount.
pub(super) fn device(text: &str, word: &Word) -> Step<ExecDevice> {
    let mut device = ExecDevice { name: String::new(), required: false };
    for field in text.split(',') {
        match field.split_once('=') {
            None if field == "required" => device.required = true,
            Some(("required", value)) => {
                device.required = crate::value::parse_bool(value).ok_or_else(|| {
                    let message = format!("invalid value for required: {value}");
                    Box::new(Diagnostic::error(word.span, message))
                })?;
            }
            Some(("name", name)) => name.clone_into(&mut device.name),
            // `vendor.com/class=name` is a name.
            _ if device.name.is_empty() => field.clone_into(&mut device.name),
            _ => return fail(word.span, format!("unexpected field {field:?} of --device")),
        }
    }
    if device.name.is_empty() {
        return fail(word.span, "--device needs the name of a device (vendor.com/class=name)");
    }
    Ok(device)
}

/// A path inside a source, from its root.
fn inside(path: Option<&str>) -> String {
    join("/", path.unwrap_or_default())
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

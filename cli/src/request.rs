//! A build as it was asked for: arguments and environment together. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use frontend::{Entitlement, LowerOptions};
use graph::{ModeChange, NetworkMode};
use oci::Platform;
use worker::{ContextModes, ContextOptions, DeviceAccess};

use crate::args::allow::Allow;
use crate::args::{self, BuildArgs, CacheArgs, GlobalArgs, Network};
use crate::contexts::{ContextError, ContextSource, DockerfileSource, NamedContexts};
use crate::environment::{self, Environment};
use crate::outputs::OutputPlan;
use crate::outputs::plan::PlanError;
use crate::proxies::DockerConfig;

/// The build argument that makes `.git` part of a git context.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Everything that a build needs to know before it reads a file.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Where files come from.
    pub context: ContextSource,
    /// Where the Dockerfile comes from.
    pub dockerfile: DockerfileSource,
    /// How it is lowered. The ignore lists are empty: they are read from files.
    pub lower: LowerOptions,
    /// `--build-context`.
    pub named: NamedContexts,
    /// How contexts are read that are directories.
    pub context_options: ContextOptions,
    /// Caches that are shared with other machines.
    pub caches: CacheArgs,
    /// What becomes of the image.
    pub outputs: OutputPlan,
    /// `--iidfile`.
    pub iidfile: Option<PathBuf>,
    /// `--metadata-file`.
    pub metadata_file: Option<PathBuf>,
    /// Whether registries are asked for base images that are there.
    pub pull: bool,
    /// How many steps run at the same time; none for the number of cores.
    pub jobs: Option<NonZeroUsize>,
    /// Limits of each RUN step.
    pub limits: worker::Limits,
    /// What RUN steps are told about name servers.
    pub dns: worker::Dns,
    /// Devices that RUN steps may use.
    pub devices: DeviceAccess,
    /// How snapshots are to be stored.
    pub snapshotter: worker::Backend,
    /// Whether only the image's id is printed.
    pub quiet: bool,
    /// The state directory.
    pub root: PathBuf,
    /// What is to be said before the build starts.
    pub notes: Vec<String>,
}

/// Why a build cannot be asked for like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Outputs that do not go together.
    #[error(transparent)]
    Outputs(#[from] PlanError),
    /// Contexts that make no sense.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// More than one platform, or one that this machine cannot run.
    #[error("not supported yet: --platform {0} (this machine is {1})")]
    Platform(String, String),
    /// SOURCE_DATE_EPOCH makes no sense.
    #[error("--build-arg SOURCE_DATE_EPOCH={0} {1}")]
    Epoch(String, String),
    /// A build argument that is yes or no is neither.
    #[error("--build-arg {0}={1}: neither true nor false")]
    Switch(&'static str, String),
    /// Limits of steps that do not go together.
    #[error("{0}")]
    Limits(String),
    /// A name server that steps with a network of their own do not reach.
    #[error(
        "--dns {0}: steps with a network of their own (--network=isolated) do not reach the loopback \
         addresses of this host; without --dns they are told of its name servers in a way that \
         they can use"
    )]
    Dns(std::net::IpAddr),
    /// There is no place for the state directory.
    #[error("no home directory: say with --root or DRYDOCK_ROOT where the state is kept")]
    NoRoot,
}

impl BuildRequest {
    /// Brings arguments, environment and docker's configuration together.
    ///
    /// # Errors
    /// If they make no sense.
    pub fn new(
        args: &BuildArgs,
        global: &GlobalArgs,
        environment: &Environment,
        docker: &DockerConfig,
        is_root: bool,
    ) -> Result<Self, RequestError> {
        let outputs = OutputPlan::new(args)?;
        let host = Platform::host();
        let mut lower = LowerOptions::new(platform(args, environment, &host)?);
        lower.build_platform = host;
        lower.target = args.target.clone().filter(|t| !t.is_empty());
        lower.build_args = build_args(args, environment);
        let (context, dockerfile) = sources(args, &lower.build_args)?;
        let named = NamedContexts::new(&args.build_contexts)?;
        lower.contexts.clone_from(&named.kinds);
        let context_options =
            ContextOptions { modes: args.contexts.modes.into(), trust: args.contexts.trust.into() };
        lower.context_modes =
            (context_options.modes == ContextModes::Git).then_some(ModeChange::Git);
        lower.allow = entitlements(args);
        lower.labels = args.labels.iter().map(|l| (l.key.clone(), l.value.clone())).collect();
        lower.no_cache = args.no_cache;
        lower.no_cache_filter.clone_from(&args.no_cache_filter);
        lower.step_ages.clone_from(&args.ttl);
        lower.network = match args.network {
            Network::Default => NetworkMode::Default,
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
            Network::Isolated => NetworkMode::Isolated,
        };
        lower.extra_hosts =
            args.add_hosts.iter().map(|h| (h.name.clone(), h.address.clone())).collect();
        let proxies = docker.proxies().or(environment.proxies.clone());
        lower.proxy_env = proxies.variables(&lower.build_args);
        check_epoch(&lower.build_args)?;
        let mut notes = args.ignored.warnings();
        if outputs.is_empty() {
            notes.push(
                "No output specified: the result stays in the build cache only \
                 (-t NAME keeps it in the local store, -o writes it)"
                    .to_owned(),
            );
        }
        Ok(Self {
            context,
            dockerfile,
            lower,
            named,
            context_options,
            caches: args.caches.clone(),
            outputs,
            iidfile: args.iidfile.clone(),
            metadata_file: args.metadata_file.clone(),
            pull: args.pull,
            jobs: args.jobs,
            limits: args.limits.resolve().map_err(RequestError::Limits)?,
            dns: dns(args)?,
            devices: devices(args, environment),
            snapshotter: args.snapshotter.into(),
            quiet: args.quiet,
            root: environment
                .state_directory(global.root.as_deref(), is_root)
                .ok_or(RequestError::NoRoot)?,
            notes,
        })
    }
}

impl BuildRequest {
    /// Whether some context is a directory of this machine, which may have an ignore file.
    pub fn has_directories(&self) -> bool {
        matches!(self.context, ContextSource::Directory(_)) || !self.named.directories.is_empty()
    }
}

fn sources(
    args: &BuildArgs,
    build_args: &BTreeMap<String, String>,
) -> Result<(ContextSource, DockerfileSource), RequestError> {
    let dockerfile = DockerfileSource::parse(args.file.as_deref());
    let mut context = ContextSource::parse(&args.context)?;
    if (&context, &dockerfile) == (&ContextSource::Stdin, &DockerfileSource::Stdin) {
        return Err(ContextError::TwoStdins.into());
    }
    if let ContextSource::Git(git) = &mut context {
        git.keep_git_dir |= switch(build_args, KEEP_GIT_DIR)?;
    }
    Ok((context, dockerfile))
}

/// `--allow`; the host's network for all steps is asked for together with being allowed (buildx).
fn entitlements(args: &BuildArgs) -> BTreeSet<Entitlement> {
    let host = (args.network == Network::Host).then_some(Entitlement::NetworkHost);
    let plain = args.allow.iter().filter_map(|allow| match allow {
        Allow::Entitlement(entitlement) => Some(*entitlement),
        Allow::Device(_) => None,
    });
    plain.chain(host).collect()
}

/// `--allow device`, and where devices are described.
fn devices(args: &BuildArgs, environment: &Environment) -> DeviceAccess {
    let mut access = DeviceAccess::default();
    if let Some(directories) = &environment.cdi_directories {
        access.directories.clone_from(directories);
    }
    for allow in &args.allow {
        match allow {
            Allow::Entitlement(Entitlement::Device) => access.grants.all = true,
            Allow::Entitlement(_) => {}
            Allow::Device(grant) => access.grants.devices.push(grant.clone()),
        }
    }
    access
}

/// `--dns` and the like.
fn dns(args: &BuildArgs) -> Result<worker::Dns, RequestError> {
    let dns = args.dns.resolve();
    let lost = dns.servers.iter().find(|it| it.to_canonical().is_loopback());
    match lost {
        Some(server) if args.network == Network::Isolated => Err(RequestError::Dns(*server)),
        _ => Ok(dns),
    }
}

/// A build argument that switches something on.
fn switch(build_args: &BTreeMap<String, String>, name: &'static str) -> Result<bool, RequestError> {
    match build_args.get(name).map(String::as_str) {
        None | Some("") => Ok(false),
        Some(text) => {
            args::switch::boolean(text).ok_or_else(|| RequestError::Switch(name, text.to_owned()))
        }
    }
}

fn platform(
    args: &BuildArgs,
    environment: &Environment,
    host: &Platform,
) -> Result<Platform, RequestError> {
    let wanted = match &args.platform[..] {
        [] => environment.platform.clone().unwrap_or_else(|| host.clone()),
        [one] => one.clone(),
        [first, rest @ ..] if rest.iter().all(|p| p == first) => first.clone(),
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            return Err(RequestError::Platform(names.join(","), host.to_string()));
        }
    };
    // Variants are for the processor to like or not: what matters here is who runs the steps.
    if (&wanted.os, &wanted.architecture) == (&host.os, &host.architecture) {
        Ok(wanted)
    } else {
        Err(RequestError::Platform(wanted.to_string(), host.to_string()))
    }
}

/// `--build-arg`, the last one of a name; without a value that of the environment, if there is
/// one. SOURCE_DATE_EPOCH of the environment counts as given, as in buildx.
fn build_args(args: &BuildArgs, environment: &Environment) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    if let Some(epoch) = environment.source_date_epoch {
        values.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.seconds.to_string());
    }
    for arg in &args.build_args {
        let value = arg.value.as_deref().or_else(|| environment.variable(&arg.key));
        if let Some(value) = value {
            values.insert(arg.key.clone(), value.to_owned());
        }
    }
    values
}

/// Whether a SOURCE_DATE_EPOCH that looks like a number is a time; a name is looked up later.
fn check_epoch(build_args: &BTreeMap<String, String>) -> Result<(), RequestError> {
    match build_args.get("SOURCE_DATE_EPOCH").map(String::as_str) {
        Some(text) if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
            environment::epoch(text)
                .map(drop)
                .map_err(|reason| RequestError::Epoch(text.to_owned(), reason))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command;

    fn request(line: &str, variables: &[(&str, &str)]) -> Result<BuildRequest, RequestError> {
        let line = format!("drydock build {line}");
        let cli = args::parse(line.split_whitespace().map(Into::into)).unwrap();
        let Command::Build(build) = cli.command else { panic!() };
        let environment = Environment::new(variables.iter().map(|(k, v)| (k.into(), v.into())));
        let docker = r#"{"proxies":{"default":{"httpProxy":"http://p"}}}"#;
        let docker = DockerConfig::parse(docker).unwrap();
        BuildRequest::new(&build, &cli.global, &environment, &docker, true)
    }

    #[test]
    fn sources_of_files() {
        let r = request("-f x/Dockerfile ctx", &[]).unwrap();
        assert_eq!(r.context, ContextSource::Directory("ctx".into()));
        assert_eq!(r.dockerfile, DockerfileSource::File("x/Dockerfile".into()));
        assert_eq!(request("-f - .", &[]).unwrap().dockerfile, DockerfileSource::Stdin);
        assert_eq!(request("-", &[]).unwrap().context, ContextSource::Stdin);
        let error = request("-f - -", &[]).unwrap_err();
        assert_eq!(error, RequestError::Context(ContextError::TwoStdins));
        assert!(request("ftp://h/a", &[]).is_err());
        assert!(request("--build-context x=ftp://h .", &[]).is_err());
    }

    #[test]
    fn repositories_and_what_steps_may_do() {
        let keeps = |line: &str| match request(line, &[]).unwrap().context {
            ContextSource::Git(git) => git.keep_git_dir,
            other => panic!("{other:?}"),
        };
        assert!(!keeps("https://h/a.git"));
        assert!(keeps("--build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1 https://h/a.git"));
        let bad = request("--build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=x https://h/a.git", &[]);
        assert!(matches!(bad, Err(RequestError::Switch(..))));
        let allowed = |line: &str| request(line, &[]).unwrap().lower.allow;
        assert!(allowed(".").is_empty());
        assert_eq!(allowed("--network host ."), [Entitlement::NetworkHost].into());
        assert_eq!(allowed("--allow device --allow device ."), [Entitlement::Device].into());
        assert!(allowed("--allow device=v/d=x .").is_empty());
        let devices = |line: &str| request(line, &[("DRYDOCK_CDI_DIRS", "/a:/b")]).unwrap().devices;
        assert!(!devices(".").grants.all && devices("--allow device .").grants.all);
        let some = devices("--allow device=v/d=x --allow device=v/d,alias=a/b .");
        assert_eq!((some.grants.all, some.grants.devices.len()), (false, 2));
        assert_eq!(some.directories, ["/a", "/b"].map(PathBuf::from));
    }

    #[test]
    fn name_servers() {
        let dns = |line: &str| request(line, &[]).map(|it| it.dns);
        assert_eq!(dns(".").unwrap(), worker::Dns::default());
        let servers = dns("--network=isolated --dns=10.0.0.1 --dns fd00::1 .").unwrap().servers;
        assert_eq!(
            servers,
            ["10.0.0.1", "fd00::1"].map(|it| it.parse::<std::net::IpAddr>().unwrap())
        );
        assert!(dns("--dns 127.0.0.53 .").is_ok() && dns("--network none --dns ::1 .").is_ok());
        for server in ["127.0.0.53", "::1", "::ffff:127.0.0.1"] {
            let error = dns(&format!("--network isolated --dns {server} .")).unwrap_err();
            assert!(matches!(error, RequestError::Dns(_)), "{error}");
        }
        let isolated = request("--network isolated .", &[]).unwrap().lower;
        assert_eq!((isolated.network, isolated.allow), (NetworkMode::Isolated, [].into()));
    }

    #[test]
    fn arguments_of_the_dockerfile() {
        let env = [("A", "env"), ("SOURCE_DATE_EPOCH", "5"), ("HTTPS_PROXY", "http://q")];
        let r = request("--build-arg A --build-arg B --build-arg C=1 --build-arg C=2 .", &env);
        let r = r.unwrap();
        let args: Vec<(&str, &str)> =
            r.lower.build_args.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(args, [("A", "env"), ("C", "2"), ("SOURCE_DATE_EPOCH", "5")]);
        let names: Vec<&str> = r.lower.proxy_env.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(names, ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]);
        let r = request("--build-arg SOURCE_DATE_EPOCH=7 --build-arg http_proxy= .", &env).unwrap();
        assert_eq!(r.lower.build_args["SOURCE_DATE_EPOCH"], "7");
        assert_eq!(r.lower.proxy_env.len(), 2);
        for bad in ["-1", "1.5", "99999999999999"] {
            let line = format!("--build-arg SOURCE_DATE_EPOCH={bad} .");
            assert!(matches!(request(&line, &[]), Err(RequestError::Epoch(..))), "{bad}");
        }
        assert!(request("--build-arg SOURCE_DATE_EPOCH=context .", &[]).is_ok());
    }

    #[test]
    fn platforms_and_notes() {
        let host = Platform::host().to_string();
        assert!(request(&format!("--platform {host},{host} ."), &[]).is_ok());
        for other in ["linux/s390x", "windows/amd64", "linux/amd64,linux/arm64"] {
            let error = request(&format!("--platform {other} ."), &[]).unwrap_err();
            assert!(error.to_string().starts_with("not supported yet: --platform"), "{error}");
        }
        assert!(request(".", &[("DOCKER_DEFAULT_PLATFORM", "linux/s390x")]).is_err());
        let r = request("--rm --root /r .", &[]).unwrap();
        assert_eq!(r.notes.len(), 2);
        assert_eq!(r.root, PathBuf::from("/r"));
        assert!(request("-t a .", &[]).unwrap().notes.is_empty());
    }
}

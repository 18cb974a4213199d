//! A build as it was asked for: arguments and environment together. Pure.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use frontend::LowerOptions;
use graph::NetworkMode;
use oci::{Platform, Timestamp};

use crate::args::{BuildArgs, GlobalArgs, Network};
use crate::environment::{self, Environment};
use crate::outputs::OutputPlan;
use crate::outputs::plan::PlanError;
use crate::proxies::DockerConfig;

/// Everything that a build needs to know before it reads a file.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Where files come from.
    pub context: ContextSource,
    /// Where the Dockerfile comes from.
    pub dockerfile: DockerfileSource,
    /// How it is lowered. The ignore lists are empty: they are read from files.
    pub lower: LowerOptions,
    /// The directories of `--build-context`, by name.
    pub directories: BTreeMap<String, PathBuf>,
    /// The OCI layouts of `--build-context`, by name.
    pub layouts: BTreeMap<String, LayoutSource>,
    /// What becomes of the image.
    pub outputs: OutputPlan,
    /// How layers are written where nothing says otherwise: SOURCE_DATE_EPOCH.
    pub epoch: Option<Timestamp>,
    /// `--iidfile`.
    pub iidfile: Option<PathBuf>,
    /// `--metadata-file`.
    pub metadata_file: Option<PathBuf>,
    /// Whether registries are asked for base images that are there.
    pub pull: bool,
    /// How many steps run at the same time; none for the number of cores.
    pub jobs: Option<NonZeroUsize>,
    /// Whether only the image's id is printed.
    pub quiet: bool,
    /// The state directory.
    pub root: PathBuf,
    /// What is to be said before the build starts.
    pub notes: Vec<String>,
}

/// The main context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory.
    Directory(PathBuf),
    /// Standard input: a Dockerfile, without any files.
    Stdin,
}

/// The Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// `Dockerfile`, or else `dockerfile`, in the context.
    Default,
    /// A file, relative to the working directory.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// An OCI layout, or an archive of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutSource {
    /// The directory or the archive.
    pub path: PathBuf,
    /// The image in it: a tag or a digest; none for the only one.
    pub image: Option<String>,
}

/// Why a build cannot be asked for like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A part that does not exist yet.
    #[error("not supported yet: {0}")]
    Unsupported(String),
    /// Outputs that do not go together.
    #[error(transparent)]
    Outputs(#[from] PlanError),
    /// Both the context and the Dockerfile are standard input.
    #[error("the context and the Dockerfile cannot both come from standard input")]
    TwoStdins,
    /// The context has no name.
    #[error("the context is empty: give a directory, or - for a Dockerfile on standard input")]
    NoContext,
    /// More than one platform, or one that this machine cannot run.
    #[error("not supported yet: --platform {0} (this machine is {1})")]
    Platform(String, String),
    /// SOURCE_DATE_EPOCH makes no sense.
    #[error("--build-arg SOURCE_DATE_EPOCH={0} {1}")]
    Epoch(String, String),
    /// A named context makes no sense.
    #[error("--build-context {name}={value}: {reason}")]
    Context {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong.
        reason: String,
    },
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
        let (context, dockerfile) = sources(args)?;
        let outputs = OutputPlan::new(args)?;
        let host = Platform::host();
        let mut lower = LowerOptions::new(platform(args, environment, &host)?);
        lower.build_platform = host;
        lower.target = args.target.clone().filter(|t| !t.is_empty());
        lower.build_args = build_args(args, environment);
        lower.labels = args.labels.iter().map(|l| (l.key.clone(), l.value.clone())).collect();
        lower.no_cache = args.no_cache;
        lower.no_cache_filter.clone_from(&args.no_cache_filter);
        lower.network = match args.network {
            Network::Default => NetworkMode::Default,
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
        };
        lower.extra_hosts =
            args.add_hosts.iter().map(|h| (h.name.clone(), h.address.clone())).collect();
        let proxies = docker.proxies().or(environment.proxies.clone());
        lower.proxy_env = proxies.variables(&lower.build_args);
        let epoch = epoch(&lower.build_args)?;
        let mut notes = args.ignored.warnings();
        if outputs.is_empty() {
            notes.push(
                "No output specified: the result stays in the build cache only \
                 (-t NAME keeps it in the local store, -o writes it)"
                    .to_owned(),
            );
        }
        let mut request = Self {
            context,
            dockerfile,
            lower,
            directories: BTreeMap::new(),
            layouts: BTreeMap::new(),
            outputs,
            epoch,
            iidfile: args.iidfile.clone(),
            metadata_file: args.metadata_file.clone(),
            pull: args.pull,
            jobs: args.jobs,
            quiet: args.quiet,
            root: environment
                .state_directory(global.root.as_deref(), is_root)
                .ok_or(RequestError::NoRoot)?,
            notes,
        };
        for context in &args.build_contexts {
            request.add_context(&context.name, &context.value)?;
        }
        Ok(request)
    }

    fn add_context(&mut self, name: &str, value: &str) -> Result<(), RequestError> {
        use frontend::NamedContext as Kind;
        let wrong = |reason: String| RequestError::Context {
            name: name.to_owned(),
            value: value.to_owned(),
            reason,
        };
        let kind = if let Some(image) = value.strip_prefix("docker-image://") {
            Kind::Image(image.parse().map_err(|e: oci::ReferenceError| wrong(e.to_string()))?)
        } else if let Some(layout) = value.strip_prefix("oci-layout://") {
            let source = layout_source(layout).ok_or_else(|| wrong("no path".to_owned()))?;
            self.layouts.insert(name.to_owned(), source);
            Kind::Layout
        } else if is_remote(value) {
            return Err(RequestError::Unsupported(format!(
                "a remote context (--build-context {name}={value})"
            )));
        } else if let Some((scheme, _)) = value.split_once("://") {
            return Err(wrong(format!("unknown kind {scheme:?} (docker-image, oci-layout)")));
        } else {
            self.directories.insert(name.to_owned(), value.into());
            Kind::Local
        };
        // A later one of the same name replaces an earlier one of another kind.
        if kind != Kind::Layout {
            self.layouts.remove(name);
        }
        if kind != Kind::Local {
            self.directories.remove(name);
        }
        self.lower.contexts.insert(name.to_owned(), kind);
        Ok(())
    }
}

fn sources(args: &BuildArgs) -> Result<(ContextSource, DockerfileSource), RequestError> {
    let dockerfile = match &args.file {
        None => DockerfileSource::Default,
        Some(path) if path == Path::new("-") => DockerfileSource::Stdin,
        Some(path) => DockerfileSource::File(path.clone()),
    };
    let context = match args.context.as_str() {
        "" => return Err(RequestError::NoContext),
        "-" => ContextSource::Stdin,
        url if is_remote(url) => {
            return Err(RequestError::Unsupported(format!("a remote context ({url})")));
        }
        path => ContextSource::Directory(path.into()),
    };
    if context == ContextSource::Stdin && dockerfile != DockerfileSource::Default {
        return match dockerfile {
            DockerfileSource::Stdin => Err(RequestError::TwoStdins),
            _ => Err(RequestError::Unsupported("-f FILE with a context on standard input".into())),
        };
    }
    Ok((context, dockerfile))
}

/// Whether docker takes it for a URL.
fn is_remote(text: &str) -> bool {
    const PREFIXES: [&str; 6] = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    PREFIXES.iter().any(|p| text.starts_with(p)) && !Path::new(text).is_dir()
}

/// `PATH[:TAG][@DIGEST]`; a colon belongs to a tag only after the last slash.
fn layout_source(text: &str) -> Option<LayoutSource> {
    let (rest, digest) = match text.split_once("@sha256:") {
        Some((rest, hex)) => (rest, Some(format!("sha256:{hex}"))),
        None => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => (path, Some(tag.to_owned())),
        _ => (rest, None),
    };
    (!path.is_empty()).then(|| LayoutSource { path: path.into(), image: digest.or(tag) })
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

fn epoch(build_args: &BTreeMap<String, String>) -> Result<Option<Timestamp>, RequestError> {
    match build_args.get("SOURCE_DATE_EPOCH").map(String::as_str) {
        None | Some("") => Ok(None),
        Some(text) => environment::epoch(text)
            .map(Some)
            .map_err(|reason| RequestError::Epoch(text.to_owned(), reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Command};

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
        assert_eq!(request("-f - -", &[]).unwrap_err(), RequestError::TwoStdins);
        for url in ["https://a/b.git", "git@h:a/b", "github.com/a/b"] {
            assert!(matches!(request(url, &[]), Err(RequestError::Unsupported(_))), "{url}");
        }
    }

    #[test]
    fn arguments_of_the_dockerfile() {
        let env = [("A", "env"), ("SOURCE_DATE_EPOCH", "5"), ("HTTPS_PROXY", "http://q")];
        let r = request("--build-arg A --build-arg B --build-arg C=1 --build-arg C=2 .", &env);
        let r = r.unwrap();
        let args: Vec<(&str, &str)> =
            r.lower.build_args.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(args, [("A", "env"), ("C", "2"), ("SOURCE_DATE_EPOCH", "5")]);
        assert_eq!(r.epoch, Some(Timestamp::from_seconds(5)));
        let names: Vec<&str> = r.lower.proxy_env.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(names, ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]);
        let r = request("--build-arg SOURCE_DATE_EPOCH=7 --build-arg http_proxy= .", &env).unwrap();
        assert_eq!(r.epoch, Some(Timestamp::from_seconds(7)));
        assert_eq!(r.lower.proxy_env.len(), 2);
        assert!(request("--build-arg SOURCE_DATE_EPOCH=x .", &[]).is_err());
    }

    #[test]
    fn named_contexts() {
        let r = request(
            "--build-context a=dir --build-context b=docker-image://busybox \
             --build-context c=oci-layout:///x/y:1.0 --build-context a=oci-layout://d \
             --build-context e=dir .",
            &[],
        )
        .unwrap();
        assert_eq!(r.lower.contexts.len(), 4);
        assert_eq!(r.directories.keys().collect::<Vec<_>>(), ["e"]);
        let layout =
            |p: &str, i: Option<&str>| LayoutSource { path: p.into(), image: i.map(str::to_owned) };
        assert_eq!(r.layouts["c"], layout("/x/y", Some("1.0")));
        assert_eq!(r.layouts["a"], layout("d", None));
        let digest = format!("d:1@sha256:{}", "0".repeat(64));
        assert_eq!(layout_source(&digest).unwrap().image.unwrap(), digest[4..]);
        assert_eq!(layout_source("/a:b/c").unwrap(), layout("/a:b/c", None));
        for bad in ["x=docker-image://B", "x=ftp://h", "x=oci-layout://", "x=https://h"] {
            assert!(request(&format!("--build-context {bad} ."), &[]).is_err(), "{bad}");
        }
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

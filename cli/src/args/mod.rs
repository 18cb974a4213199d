//! The command line.

pub mod age;
pub mod allow;
pub mod build;
mod cache_fields;
pub mod cache_from;
pub mod cache_to;
pub mod caches;
pub mod call;
pub mod context;
pub mod csv;
pub mod dns;
pub mod explain;
pub mod info;
pub mod later;
pub mod limits;
pub mod logs;
pub mod max_cache;
pub mod output;
pub mod pair;
pub mod secret;
pub mod ssh;
pub mod store;
pub mod suggest;
pub mod switch;
pub mod usage;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

pub use build::{BuildArgs, Network, ProgressMode};
pub use caches::CacheArgs;
pub use call::{Call, CallFormat, CallSpec};
pub use explain::ExplainArgs;
pub use info::{InfoArgs, InfoFormat};
pub use logs::LogsArgs;
pub use max_cache::MaxCache;
pub use output::{LayerCompression, LayerOptions, OutputKind, OutputSpec, Stream};
pub use pair::{BuildArg, ExtraHost, Label, NamedContext};
pub use secret::{SecretArg, SecretPlace};
pub use ssh::SshArg;
pub use store::{ImagesArgs, InspectArgs, LoadArgs, PullArgs, PushArgs, RmiArgs, TagArgs};
pub use usage::{DuArgs, DuFormat, PruneArgs};

/// Switches of all commands: they may have a value, as in `--pull=false`.
const SWITCHES: &[&str] = &[
    "all",
    "check",
    "compress",
    "debug",
    "explain",
    "force",
    "force-rm",
    "json",
    "list",
    "load",
    "no-cache",
    "no-trunc",
    "pull",
    "push",
    "quiet",
    "rm",
    "squash",
    "timestamps",
    "tree",
    "verbose",
];

/// Builds container images from Dockerfiles.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "drydock",
    bin_name = "drydock",
    version,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    args_override_self = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What counts for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Arguments of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct GlobalArgs {
    /// The state directory [env: DRYDOCK_ROOT]
    #[arg(long, value_name = "DIR", global = true, help_heading = "Everywhere")]
    pub root: Option<PathBuf>,
    /// Tell every cause of an error
    #[arg(short = 'D', long, global = true, help_heading = "Everywhere")]
    pub debug: bool,
}

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Build an image from a Dockerfile
    #[command(visible_alias = "b")]
    Build(Box<BuildArgs>),
    /// List the images of the local store
    Images(ImagesArgs),
    /// Show an image's config and layers as JSON
    Inspect(InspectArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images from the local store
    Rmi(RmiArgs),
    /// Load images from an archive
    Load(LoadArgs),
    /// Push an image to its registry
    Push(PushArgs),
    /// Pull an image into the local store
    Pull(PullArgs),
    /// Show what the cache and the images take on disk
    Du(DuArgs),
    /// Remove what no image needs from the cache
    Prune(PruneArgs),
    /// Read all of the cache, and put away what is damaged
    Verify,
    /// Show what the steps of a build told, whole
    Logs(LogsArgs),
    /// Show why the steps of a build ran
    Explain(ExplainArgs),
    /// Show what this host gives to builds, and what more would take
    Info(InfoArgs),
    /// Show the version
    Version,
}

/// A command line that ends before anything was done: help, or a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What to print.
    pub text: String,
    /// Whether it was a mistake: standard error and status 1, else standard output and 0.
    pub mistake: bool,
}

/// Parses a command line. Called by the name `build`, `drydock build` is meant.
///
/// # Errors
/// With what to print if nothing is to be done.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Usage> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.is_empty() {
        args.push("drydock".into());
    }
    if Path::new(&args[0]).file_name() == Some(OsStr::new("build")) {
        args[0] = "drydock".into();
        args.insert(1, "build".into());
        if args.len() == 3 && args[2] == "--version" {
            args.drain(1..2);
        }
    }
    if args.get(1).is_some_and(|a| a == "--version" || a == "-V") {
        args[1] = "version".into();
    }
    let cli = Cli::try_parse_from(switch::resolve(args, SWITCHES)).map_err(usage)?;
    if let Command::Build(build) = &cli.command
        && let Some(flag) = build.later.given()
    {
        return Err(Usage { text: format!("ERROR: not supported yet: {flag}\n"), mistake: true });
    }
    if let Command::Build(build) = &cli.command
        && let Some(path) = build.paths.first()
        && build.call().call != Call::Ignore
    {
        let message = format!("unexpected argument '{path}' found: there is one context");
        let mut command = Cli::command();
        command.build();
        let build = command.find_subcommand_mut("build").expect("it is a command");
        return Err(usage(build.error(ErrorKind::UnknownArgument, message)));
    }
    Ok(cli)
}

/// Help, or a mistake in the shape that all errors have.
fn usage(mut error: clap::Error) -> Usage {
    if error.kind() == ErrorKind::UnknownArgument {
        // That it could be the name of a file: nobody means that.
        error.remove(ContextKind::Suggested);
    }
    let mistake = error.use_stderr();
    let mut text = error.render().to_string();
    if let Some(rest) = text.strip_prefix("error: ") {
        text = format!("ERROR: {rest}");
    }
    Usage { text, mistake }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Cli, Usage> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn build(line: &str) -> BuildArgs {
        match run(line).unwrap_or_else(|e| panic!("{line}: {}", e.text)).command {
            Command::Build(build) => *build,
            other => panic!("{other:?}"),
        }
    }

    fn mistake(line: &str) -> String {
        let usage = run(line).expect_err(line);
        assert!(usage.mistake, "{line}");
        usage.text
    }

    #[test]
    fn the_parser_is_consistent() {
        Cli::command().debug_assert();
        let switches = Cli::command()
            .get_subcommands()
            .flat_map(clap::Command::get_arguments)
            .filter(|a| !a.get_action().takes_values())
            .filter_map(|a| a.get_long().map(str::to_owned))
            .filter(|l| l != "help")
            .collect::<Vec<_>>();
        for switch in switches {
            assert!(SWITCHES.contains(&switch.as_str()), "--{switch} is not in SWITCHES");
        }
    }

    #[test]
    fn called_by_the_name_build() {
        let args = build("/usr/local/bin/build -t app .");
        assert_eq!((args.tags[0].familiar().as_str(), args.context.as_str()), ("app:latest", "."));
        assert!(run("build --help").unwrap_err().text.contains("--iidfile"));
    }

    #[test]
    fn docker_spellings() {
        let args = build(
            "drydock build . --tag a --tag=b:1 -f x/Dockerfile --build-arg A=b=c --build-arg D \
             --target t --label l=v --no-cache --no-cache-filter s1,s2 -o out --output=type=oci \
             --push --load=false --progress=plain -q --iidfile i --metadata-file m \
             --build-context base=docker-image://x --pull=true --platform linux/amd64 \
             --network none --add-host=h:1.2.3.4 --jobs 3 --root /r -D --rm=true --force-rm",
        );
        assert_eq!(args.tags.len(), 2);
        assert_eq!(args.build_args[0].value.as_deref(), Some("b=c"));
        assert_eq!(args.no_cache_filter, ["s1", "s2"]);
        assert_eq!(args.outputs.len(), 2);
        assert!(args.push && !args.load && args.pull && args.quiet && args.no_cache);
        assert_eq!((args.network, args.progress), (Network::None, Some(ProgressMode::Plain)));
        assert_eq!(args.jobs.map(|j| j.get()), Some(3));
        assert_eq!(args.ignored.warnings().len(), 2);
        let args = build("drydock build --call=ignore --secret id=a --allow device . a b");
        assert_eq!((args.paths.len(), args.secrets.len(), args.allow.len()), (2, 1, 1));
        let global = run("drydock --root /a build -D . --root /b").unwrap().global;
        assert_eq!((global.root, global.debug), (Some("/b".into()), true));
        assert_eq!(build("drydock build --progress none .").progress, Some(ProgressMode::Quiet));
        assert_eq!(build("drydock build -qtapp .").tags[0].familiar(), "app:latest");
    }

    #[test]
    fn mistakes_are_told_before_anything_is_done() {
        for (line, part) in [
            ("drydock", "Usage"),
            ("drydock build", "PATH"),
            ("drydock build . ..", "unexpected argument '..'"),
            ("drydock build --call=check . ..", "unexpected argument '..'"),
            ("drydock build --secret src=x .", "no id"),
            ("drydock build --allow everything .", "network.host, security.insecure, device"),
            ("drydock build -t App .", "invalid value 'App'"),
            ("drydock build -o type=ocl,dest=x .", "did you mean"),
            ("drydock build --no-cahce .", "--no-cache"),
            ("drydock build --progress fancy .", "plain"),
            ("drydock build --jobs 0 .", "--jobs"),
            ("drydock build --jobs -1 .", "invalid value '-1' for '--jobs"),
            ("drydock build --platform x/y/z/w .", "not a platform"),
            ("drydock build --pull=maybe .", "maybe"),
            ("drydock build --network bridge .", "default"),
            ("drydock prune --filter until=x", "24h"),
            ("drydock frobnicate", "frobnicate"),
        ] {
            let text = mistake(line);
            assert!(text.contains(part), "{line}: {text}");
            assert!(line == "drydock" || text.starts_with("ERROR: "), "{line}: {text}");
        }
        let text = mistake("drydock build --frobnicate .");
        assert!(text.contains("--frobnicate") && !text.contains("tip:"), "{text}");
    }

    #[test]
    fn flags_that_are_not_supported_yet() {
        for flag in
            ["--attest=type=sbom", "--provenance=mode=max", "--sbom=true", "--annotation=a=b"]
        {
            let text = mistake(&format!("drydock build {flag} ."));
            let name = flag.split('=').next().unwrap();
            assert_eq!(text, format!("ERROR: not supported yet: {name}\n"));
        }
        build("drydock build --provenance=false --sbom=false --call=build .");
    }

    #[test]
    fn help_and_version() {
        let help = run("drydock --help").unwrap_err();
        assert!(!help.mistake);
        for name in
            ["build", "images", "inspect", "tag", "rmi", "load", "push", "pull", "du", "prune"]
        {
            assert!(help.text.contains(name), "{name}");
        }
        assert!(!run("drydock build -h").unwrap_err().text.contains("--attest"));
        for line in ["drydock --version", "drydock -V", "/bin/build --version"] {
            assert!(matches!(run(line).unwrap().command, Command::Version), "{line}");
        }
        let Command::Prune(prune) = run("drydock prune -af --filter until=24h").unwrap().command
        else {
            panic!()
        };
        assert!(prune.all && prune.force);
        assert_eq!(prune.filter, ["until=24h"]);
    }
}

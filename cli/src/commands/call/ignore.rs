//! `--call=ignore`: which line of which ignore file decides about a path.

mod answer;
mod rules;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use graph::pattern::clean;

use crate::args::{BuildArgs, CallFormat};
use crate::commands::dockerfile::{self, DOCKERFILE};
use crate::commands::failure::Failure;
use crate::console;
use crate::contexts::{ContextSource, DockerfileSource};
use answer::Answers;
use rules::Rules;

/// The end of an ignore file's name.
const IGNORE: &str = ".dockerignore";

/// What is asked.
struct Question {
    /// The context's directory.
    context: PathBuf,
    /// Paths in it; none for all of them.
    paths: Option<Vec<String>>,
}

/// Tells for each path of `args` what decides about it.
///
/// # Errors
/// If the context is no directory, a path is not in it, or an ignore file cannot be read.
pub(crate) fn run(format: CallFormat, args: &BuildArgs) -> Result<(), Failure> {
    let Question { context, paths } = question(args)?;
    let dockerfile = dockerfile_of(args, &context)?;
    let file = dockerfile::read_ignore(&context, dockerfile.as_deref())?;
    let rules = Rules::new(&context, file);
    let decisions = match paths {
        None => rules.decide_all()?,
        Some(paths) => {
            let paths = paths.iter().map(|path| rules.decide(&relative(&context, path)?));
            paths.collect::<Result<_, _>>()?
        }
    };
    let answers = Answers { file: rules.name(), context: &context, decisions };
    let text = match format {
        CallFormat::Text => answers.text(),
        CallFormat::Json => answers.json()?,
    };
    console::out(&text).map_err(Failure::output)
}

/// The first argument is the context if it is `.` or looks like one; else the working directory
/// is, and all arguments are paths in it.
fn question(args: &BuildArgs) -> Result<Question, Failure> {
    let first = args.context.as_str();
    let path = match ContextSource::parse(first)? {
        ContextSource::Directory(path) => path,
        _ => {
            return Err(Failure::error(format!(
                "--call=ignore needs a context that is a directory: {first} is none"
            )));
        }
    };
    if clean(first) == "." || is_context(&path) {
        let paths = (!args.paths.is_empty()).then(|| args.paths.clone());
        return Ok(Question { context: path, paths });
    }
    let paths = std::iter::once(&args.context).chain(&args.paths).cloned().collect();
    Ok(Question { context: ".".into(), paths: Some(paths) })
}

/// Whether a directory has a Dockerfile or an ignore file in it.
fn is_context(dir: &Path) -> bool {
    let marks = |name: &[u8]| {
        name.eq_ignore_ascii_case(DOCKERFILE.as_bytes()) || name.ends_with(IGNORE.as_bytes())
    };
    fs::read_dir(dir)
        .is_ok_and(|entries| entries.flatten().any(|e| marks(e.file_name().as_bytes())))
}

/// The Dockerfile beside which an ignore file of its own may be. It is not read.
fn dockerfile_of(args: &BuildArgs, context: &Path) -> Result<Option<PathBuf>, Failure> {
    match DockerfileSource::parse(args.file.as_deref()) {
        DockerfileSource::Default => {
            let path = context.join(DOCKERFILE);
            let lower = dockerfile::lower_case(&path).filter(|p| !path.exists() && p.exists());
            Ok(Some(lower.unwrap_or(path)))
        }
        DockerfileSource::File(path) => match fs::metadata(&path) {
            Ok(_) => Ok(Some(path)),
            Err(error) => Err(Failure::error(format!("cannot open {}: {error}", path.display()))),
        },
        DockerfileSource::Stdin | DockerfileSource::Http(_) => Ok(None),
    }
}

/// A path as the context has it: without `.` and `..`, `.` for the context itself.
fn relative(context: &Path, path: &str) -> Result<String, Failure> {
    let outside = || Failure::error(format!("{path} is not in the context {}", context.display()));
    let cleaned = clean(path);
    let inside = if Path::new(&cleaned).is_absolute() {
        let root = clean(&std::path::absolute(context)?.to_string_lossy());
        let rest = Path::new(&cleaned).strip_prefix(&root).map_err(|_| outside())?;
        clean(rest.to_str().ok_or_else(outside)?)
    } else {
        cleaned
    };
    if inside == ".." || inside.starts_with("../") { Err(outside()) } else { Ok(inside) }
}

//! Another parser's opinion: `parse-dockerfile` splits the same files into the same instructions.

mod support;

use std::fs;
use std::path::Path;

use frontend::parse;

/// Files that the other parser misreads: a doubled escape character at the end of a line is no
/// continuation (BuildKit's own tree of this file says so too).
const MISREAD: [&str; 1] = ["trailing-backslash/Dockerfile"];

/// The kinds of the instructions, by the names that both parsers give them.
fn kinds<T: std::fmt::Debug>(instructions: impl Iterator<Item = T>) -> Vec<String> {
    let kind = |i: T| {
        let shown = format!("{i:?}");
        shown.split(['(', ' ']).next().unwrap_or_default().to_lowercase()
    };
    instructions.map(kind).collect()
}

/// Compares the two on one text; false where the other one refuses it.
fn agree(name: &str, text: &str) -> bool {
    let Ok(theirs) = parse_dockerfile::parse(text) else { return false };
    let ours = parse(name, text);
    if ours.has_errors() || MISREAD.iter().any(|file| name.ends_with(file)) {
        // It checks less: flags, values and whole files are not its business.
        return false;
    }
    let want = kinds(theirs.instructions.iter());
    assert_eq!(kinds(ours.dockerfile.instructions.iter().map(|i| &i.kind)), want, "{name}");
    let heads = theirs.instructions.iter().filter_map(|i| match i {
        parse_dockerfile::Instruction::From(from) => Some(from.image.value.to_string()),
        _ => None,
    });
    let bases: Vec<String> =
        ours.dockerfile.stages().iter().map(|s| s.from.base.value.clone()).collect();
    assert_eq!(bases, heads.collect::<Vec<_>>(), "{name}");
    true
}

#[test]
fn own_files() {
    for text in [
        "FROM a\nRUN x \\\n  # c\n\n  y\nCMD [\"z\"]\n",
        "# escape=`\nFROM --platform=linux/amd64 a AS b\nRUN x `\n y\n",
        "ARG v=1\nFROM a:$v\nCOPY <<EOF /x\nbody\nEOF\nENV a=b c=d\n",
        "FROM a\nONBUILD RUN x\nHEALTHCHECK NONE\nLABEL a=b\n\n# end\n",
        "from a\nexpose 80\nVolume /v\nuser u\nworkdir /w\nstopsignal 9\nshell [\"s\"]\n",
    ] {
        assert!(agree("text", text), "{text}");
    }
}

fn walk(folder: &Path, compared: &mut usize) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && !path.is_symlink() {
            walk(&path, compared);
        } else if (name.starts_with("Dockerfile") || name.starts_with("Containerfile"))
            && let Ok(text) = fs::read_to_string(&path)
        {
            *compared += usize::from(agree(&path.display().to_string(), &text));
        }
    }
}

#[test]
fn shared_files() {
    let Some(folder) = support::vectors("") else { return };
    let mut compared = 0;
    walk(&folder, &mut compared);
    println!("{compared} files compared");
    assert!(compared > 100, "{compared}");
}

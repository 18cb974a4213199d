//! Programs in C that run inside steps: linked statically, so that they need nothing of an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use oci::Digest;

use crate::temp;

/// Gets what a case's program is compiled with; cases skip where it is missing.
pub const COMPILER: &str = "gcc";
const FLAGS: [&str; 5] = ["-static", "-O1", "-s", "-Wall", "-Werror"];

/// Compiles C source text to a static program for this machine. The file is kept beside the
/// compiled tests, under a name that tells its source, and shared by all cases with the same.
///
/// # Panics
/// If there is no compiler ([`COMPILER`], with the static C library), or it refuses the source.
pub fn compile(name: &str, source: &str) -> PathBuf {
    let digest = Digest::of(source.as_bytes()).to_string();
    let digest = digest.rsplit(':').next().unwrap_or_default();
    let directory = temp::root().join("programs");
    fs::create_dir_all(&directory).expect("the target directory can be written to");
    let program = directory.join(format!("{name}-{}", &digest[..16]));
    if !program.is_file() {
        make(name, source, &program);
    }
    program
}

/// Appears under its name when it is whole: other cases may be making the same one.
fn make(name: &str, source: &str, program: &Path) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let part =
        |kind: &str| program.with_extension(format!("{}-{number}.{kind}", std::process::id()));
    let (text, made) = (part("c"), part("made"));
    fs::write(&text, source).expect("the target directory can be written to");
    let output = Command::new(COMPILER).args(FLAGS).arg("-o").arg(&made).arg(&text).output();
    let output = output.unwrap_or_else(|e| panic!("{COMPILER}, package gcc and libc6-dev: {e}"));
    let told = String::from_utf8_lossy(&output.stderr);
    let _ = fs::remove_file(&text);
    assert!(output.status.success(), "{name}.c: {told}");
    fs::rename(&made, program).expect("the target directory can be written to");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_made_once_and_runs() {
        if crate::skip::program(COMPILER).is_none() {
            return crate::skip::say("programs", "gcc is not installed");
        }
        let source = "int main(void) { return 7; }\n";
        let program = compile("seven", source);
        assert_eq!(program, compile("seven", source));
        assert_ne!(program, compile("seven", "int main(void) { return 8; }\n"));
        assert_eq!(Command::new(&program).status().unwrap().code(), Some(7));
    }
}

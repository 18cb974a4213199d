//! Switches with a value, such as `--pull=false`.
//!
//! docker takes a value for every switch; in the help they read better without. So the values
//! are resolved before the parser sees the arguments.

use std::ffi::OsString;

/// What docker takes for true and false.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Turns `--switch=true` into `--switch` and lets `--switch=false` take earlier ones away.
/// Values that are neither are left for the parser to refuse.
pub fn resolve(args: Vec<OsString>, switches: &[&str]) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::with_capacity(args.len());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.push(arg);
            out.extend(args);
            return out;
        }
        match switch(&arg, switches) {
            Some((name, true)) => out.push(name.into()),
            Some((name, false)) => out.retain(|a| a.to_str() != Some(&name)),
            None => out.push(arg),
        }
    }
    out
}

fn switch(arg: &OsString, switches: &[&str]) -> Option<(String, bool)> {
    let (name, value) = arg.to_str()?.split_once('=')?;
    let known = name.strip_prefix("--").is_some_and(|n| switches.contains(&n));
    if known { boolean(value).map(|v| (name.to_owned(), v)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Vec<String> {
        let args = args.iter().map(OsString::from).collect();
        let out = resolve(args, &["pull", "rm"]);
        out.into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn values() {
        assert_eq!(run(&["--pull=true", "--rm=0", "."]), ["--pull", "."]);
        assert_eq!(run(&["--pull", "--pull=false", "."]), ["."]);
        assert_eq!(
            run(&["--pull=maybe", "-t=true", "--tag=x"]),
            ["--pull=maybe", "-t=true", "--tag=x"]
        );
        assert_eq!(run(&["--", "--pull=true"]), ["--", "--pull=true"]);
    }
}

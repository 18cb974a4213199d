//! Writing each kind of instruction as one line.

use super::flags::{Flags, Quoting};
use crate::ast::{ArgItem, Command, From, Healthcheck, Instruction, Kind, Pair, Run, Transfer};
use crate::syntax::{Heredoc, Word, continuation, heredoc, is_blank};
use crate::value::{parse_duration, show_duration};

/// An instruction's line. `inline_first` says whether here-documents stand before the other
/// sources of COPY and ADD.
pub(super) fn line(
    instruction: &Instruction,
    escape: char,
    quoting: Quoting,
    inline_first: bool,
) -> String {
    let mut flags = Flags::new(escape, quoting);
    let args = match &instruction.kind {
        Kind::Add(transfer) | Kind::Copy(transfer) => {
            transfer_flags(&mut flags, transfer);
            let docs = !instruction.heredocs.is_empty();
            transfer_args(transfer, docs, escape, inline_first)
        }
        Kind::Arg(items) => ended(joined(items.iter().map(arg)), escape),
        Kind::Cmd(it) | Kind::Entrypoint(it) => command(it),
        Kind::Env(pairs) | Kind::Label(pairs) => {
            ended(joined(pairs.iter().map(|p| pair(p, escape))), escape)
        }
        Kind::Expose(words) => joined(words.iter().map(|w| w.value.clone())),
        Kind::From(from) => {
            flags.word("platform", from.platform.as_ref());
            from_args(from, &instruction.keyword)
        }
        Kind::Healthcheck(health) => healthcheck(&mut flags, health),
        Kind::Maintainer(text)
        | Kind::StopSignal(text)
        | Kind::User(text)
        | Kind::Workdir(text) => text.value.clone(),
        // What an image records is this text, so it is kept to the letter.
        Kind::Onbuild(onbuild) => {
            onbuild.expression.split('\n').next().unwrap_or_default().to_owned()
        }
        Kind::Run(run) => {
            run_flags(&mut flags, run);
            command(&run.command)
        }
        Kind::Shell(words) => json(words),
        Kind::Volume(words) => plain(words, escape).unwrap_or_else(|| json(words)),
        Kind::Invalid => return instruction.text.clone(),
    };
    let end = if args.starts_with("--") { " --" } else { "" };
    let blank = if args.is_empty() { "" } else { " " };
    format!("{}{}{end}{blank}{args}", instruction.keyword.value, flags.text)
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// A text whose last blank is kept: in an open quote, or escaped. Of what follows it an escape
/// character alone is dropped only after blanks were trimmed.
fn ended(mut text: String, escape: char) -> String {
    if text.ends_with(char::is_whitespace) {
        text.push(escape);
    }
    text
}

/// A JSON array of strings.
fn json(words: &[Word]) -> String {
    let strings = words.iter().map(|w| serde_json::Value::from(w.value.as_str()).to_string());
    format!("[{}]", strings.collect::<Vec<_>>().join(", "))
}

/// Words with blanks between them; none if they would not be read as the same words so.
fn plain(words: &[Word], escape: char) -> Option<String> {
    let text = joined(words.iter().map(|w| w.value.clone()));
    let whole = |w: &Word| !w.value.is_empty() && !w.value.contains(is_blank);
    let alike = words.iter().all(whole)
        && text.trim() == text
        && !text.starts_with('[')
        && !continuation(&text, escape).1;
    alike.then_some(text)
}

fn command(command: &Command) -> String {
    if command.shell {
        joined(command.args.iter().map(|w| w.value.clone()))
    } else {
        json(&command.args)
    }
}

fn arg(item: &ArgItem) -> String {
    match &item.default {
        Some(default) => format!("{}={}", item.name.value, default.value),
        None => item.name.value.clone(),
    }
}

fn pair(pair: &Pair, escape: char) -> String {
    let (key, value) = (&pair.key.value, &pair.value.value);
    if !pair.legacy {
        return format!("{key}={value}");
    }
    // The first blank may be escaped; then the name's word goes on up to the next one.
    let blank = if key.ends_with(escape) { "  " } else { " " };
    format!("{key}{blank}{value}")
}

fn from_args(from: &From, keyword: &Word) -> String {
    let lower = keyword.value.bytes().all(|b| b.is_ascii_lowercase());
    let between = if lower { "as" } else { "AS" };
    match &from.name {
        Some(name) => format!("{} {between} {}", from.base.value, name.value),
        None => from.base.value.clone(),
    }
}

fn run_flags(flags: &mut Flags, run: &Run) {
    run.mounts.iter().for_each(|mount| flags.mount(mount));
    flags.word("network", run.network.as_ref());
    flags.word("security", run.security.as_ref());
    flags.words("device", &run.devices);
    flags.word("ttl", run.ttl.as_ref());
}

fn transfer_flags(flags: &mut Flags, transfer: &Transfer) {
    flags.word("from", transfer.from.as_ref());
    flags.word("chown", transfer.chown.as_ref());
    flags.word("chmod", transfer.chmod.as_ref());
    flags.switch("link", transfer.link);
    flags.switch("parents", transfer.parents);
    flags.words("exclude", &transfer.exclude);
    flags.word("checksum", transfer.checksum.as_ref());
    flags.switch("keep-git-dir", transfer.keep_git_dir);
    flags.switch("unpack", transfer.unpack);
}

/// Sources and destination. The words are in JSON form if they need it, which takes no
/// here-documents.
fn transfer_args(transfer: &Transfer, docs: bool, escape: char, inline_first: bool) -> String {
    let dest = std::slice::from_ref(&transfer.dest);
    let words = [transfer.sources.as_slice(), dest].concat();
    if !docs && transfer.inline.is_empty() {
        let announces = words.iter().any(|w| heredoc::parse(&w.value).is_some());
        let text = plain(&words, escape).filter(|_| !announces);
        return text.unwrap_or_else(|| json(&words));
    }
    let sources = transfer.sources.iter().map(|w| w.value.clone());
    let inline = transfer.inline.iter().map(announcement);
    let dest = std::iter::once(transfer.dest.value.clone());
    if inline_first {
        joined(inline.chain(sources).chain(dest))
    } else {
        joined(sources.chain(inline).chain(dest))
    }
}

/// `<<EOF`, in quotes if it takes no variables.
fn announcement(doc: &Heredoc) -> String {
    let fd = if doc.fd == 0 { String::new() } else { doc.fd.to_string() };
    let chomp = if doc.chomp { "-" } else { "" };
    let name = &doc.name;
    let word = if doc.expand {
        name.clone()
    } else if name.contains(['"', '$', '\\']) && !name.contains('\'') {
        format!("'{name}'")
    } else {
        let escaped = name.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        format!("\"{escaped}\"")
    };
    format!("{fd}<<{chomp}{word}")
}

fn healthcheck(flags: &mut Flags, health: &Healthcheck) -> String {
    let Healthcheck::Check {
        command: run,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = health
    else {
        return "NONE".to_owned();
    };
    for (name, nanos) in [
        ("interval", interval),
        ("timeout", timeout),
        ("start-period", start_period),
        ("start-interval", start_interval),
    ] {
        if *nanos != 0 {
            flags.value(name, &duration(*nanos));
        }
    }
    if *retries != 0 {
        flags.value("retries", &retries.to_string());
    }
    format!("CMD {}", command(run))
}

/// A duration as one writes it, if that is read as the same number.
fn duration(nanos: u64) -> String {
    let shown = show_duration(nanos);
    let read = parse_duration(&shown).and_then(|n| u64::try_from(n).ok());
    if read == Some(nanos) { shown } else { format!("{nanos}ns") }
}

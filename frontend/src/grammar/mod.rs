//! From split instructions to the syntax tree: keywords, flags, forms, and the rules that hold
//! whatever the variables are.

mod checks;
mod flags;
mod health;
mod mount;
mod transfer;

use graph::Span;

use crate::Diagnostic;
use crate::ast::{ArgItem, Command, Dockerfile, From, Instruction, Kind, Onbuild, Pair, Run, Word};
use crate::lint::warning;
use crate::syntax::{self, Args, Raw};
use crate::value::parse_age;
use flags::{Flag, Flags};

/// All keywords.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What `--ttl` takes.
const AGES: &str =
    "write a number with s, m, h, d or w, such as 90s, 24h or 7d; with 0 it runs in every build";

/// Reads a Dockerfile.
pub(crate) fn parse(text: &str) -> (Dockerfile, Vec<Diagnostic>) {
    let mut grammar = Grammar { diagnostics: Vec::new() };
    let mut instructions = Vec::new();
    let (directives, mut diagnostics) =
        syntax::each(text, |raw| instructions.push(grammar.instruction(raw)));
    let dockerfile = Dockerfile { directives, instructions };
    if !dockerfile.instructions.is_empty() {
        checks::order(&dockerfile, &mut grammar.diagnostics);
        checks::style(&dockerfile, &mut grammar.diagnostics);
    }
    diagnostics.append(&mut grammar.diagnostics);
    diagnostics.sort_by_key(|d| d.span.start);
    (dockerfile, diagnostics)
}

/// Reads one instruction alone, such as an ONBUILD trigger.
pub(crate) fn parse_one(text: &str) -> Result<Instruction, Vec<Diagnostic>> {
    let (file, mut diagnostics) = syntax::scan(text);
    let mut grammar = Grammar { diagnostics: Vec::new() };
    let mut instructions: Vec<Instruction> =
        file.instructions.into_iter().map(|raw| grammar.instruction(raw)).collect();
    diagnostics.append(&mut grammar.diagnostics);
    diagnostics.retain(Diagnostic::is_error);
    let one = instructions.pop().filter(|_| instructions.is_empty() && diagnostics.is_empty());
    one.ok_or_else(|| {
        if diagnostics.is_empty() {
            let message = "a trigger must be a single instruction";
            diagnostics.push(Diagnostic::error(Span::new(0, text.len()), message));
        }
        diagnostics
    })
}

struct Grammar {
    diagnostics: Vec<Diagnostic>,
}

impl Grammar {
    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(span, message));
    }

    fn instruction(&mut self, raw: Raw) -> Instruction {
        let kind = match &raw.args {
            Args::Invalid => Kind::Invalid,
            _ => self.kind(&raw).unwrap_or(Kind::Invalid),
        };
        Instruction {
            keyword: raw.keyword,
            kind,
            text: raw.text,
            span: raw.span,
            line_span: raw.line_span,
            comments: raw.comments,
            heredocs: raw.heredocs,
        }
    }

    /// None after an error.
    fn kind(&mut self, raw: &Raw) -> Option<Kind> {
        let keyword = raw.keyword.value.to_ascii_uppercase();
        Some(match keyword.as_str() {
            "ADD" => Kind::Add(self.transfer(raw, false)?),
            "ARG" => self.arg(raw)?,
            "CMD" => Kind::Cmd(self.command(raw)?),
            "COPY" => Kind::Copy(self.transfer(raw, true)?),
            "ENTRYPOINT" => Kind::Entrypoint(self.command(raw)?),
            "ENV" => Kind::Env(self.pairs(raw, "ENV")?),
            "EXPOSE" => Kind::Expose(self.words(raw, "EXPOSE")?),
            "FROM" => Kind::From(self.from(raw)?),
            "HEALTHCHECK" => Kind::Healthcheck(self.healthcheck(raw)?),
            "LABEL" => Kind::Label(self.pairs(raw, "LABEL")?),
            "MAINTAINER" => self.maintainer(raw)?,
            "ONBUILD" => Kind::Onbuild(self.onbuild(raw)?),
            "RUN" => Kind::Run(self.run(raw)?),
            "SHELL" => self.shell(raw)?,
            "STOPSIGNAL" => Kind::StopSignal(self.text(raw, "STOPSIGNAL")?),
            "USER" => Kind::User(self.text(raw, "USER")?),
            "VOLUME" => self.volume(raw)?,
            "WORKDIR" => Kind::Workdir(self.text(raw, "WORKDIR")?),
            _ => {
                let written = &raw.keyword.value;
                let error =
                    Diagnostic::error(raw.keyword.span, format!("unknown instruction: {written}"));
                self.diagnostics.push(error.suggest(written, KEYWORDS));
                return None;
            }
        })
    }

    fn flags(&mut self, raw: &Raw, allowed: &'static [(&'static str, Flag)]) -> Option<Flags> {
        Flags::read(raw, allowed, &mut self.diagnostics)
    }

    fn text(&mut self, raw: &Raw, keyword: &str) -> Option<Word> {
        let flags = self.flags(raw, &[]);
        let Args::Text(word) = &raw.args else {
            self.error(raw.line_span, format!("{keyword} requires exactly one argument"));
            return None;
        };
        flags.map(|_| word.clone())
    }

    fn words(&mut self, raw: &Raw, keyword: &str) -> Option<Vec<Word>> {
        let flags = self.flags(raw, &[]);
        match &raw.args {
            Args::Words(words) | Args::Json(words) if !words.is_empty() => {
                flags.map(|_| words.clone())
            }
            _ => {
                self.error(raw.line_span, format!("{keyword} requires at least one argument"));
                None
            }
        }
    }

    fn pairs(&mut self, raw: &Raw, keyword: &'static str) -> Option<Vec<Pair>> {
        self.flags(raw, &[])?;
        let Args::Pairs(pairs) = &raw.args else {
            self.error(raw.line_span, format!("{keyword} requires at least one argument"));
            return None;
        };
        for pair in pairs {
            if pair.key.value.is_empty() {
                self.error(pair.key.span, format!("{keyword} names can not be blank"));
                return None;
            }
        }
        Some(pairs.clone())
    }

    fn arg(&mut self, raw: &Raw) -> Option<Kind> {
        let words = self.words(raw, "ARG")?;
        let mut items = Vec::with_capacity(words.len());
        for word in words {
            let Some((name, default)) = word.value.split_once('=') else {
                items.push(ArgItem { name: word, default: None });
                continue;
            };
            if name.is_empty() {
                self.error(word.span, "ARG names can not be blank");
                return None;
            }
            let (name, default) = (name.to_owned(), default.to_owned());
            let mut value_span = word.span;
            value_span.start =
                (value_span.start + Span::new(0, name.len() + 1).end).min(value_span.end);
            items.push(ArgItem {
                name: Word { value: name, span: word.span },
                default: Some(Word { value: default, span: value_span }),
            });
        }
        Some(Kind::Arg(items))
    }

    fn command(&mut self, raw: &Raw) -> Option<Command> {
        self.flags(raw, &[])?;
        Some(command(&raw.args))
    }

    fn maintainer(&mut self, raw: &Raw) -> Option<Kind> {
        let word = self.text(raw, "MAINTAINER")?;
        self.diagnostics.push(warning::maintainer(raw.line_span));
        Some(Kind::Maintainer(word))
    }

    fn shell(&mut self, raw: &Raw) -> Option<Kind> {
        self.flags(raw, &[])?;
        match &raw.args {
            Args::Json(words) if !words.is_empty() => Some(Kind::Shell(words.clone())),
            Args::Text(_) => {
                self.error(raw.line_span, "SHELL requires the arguments to be in JSON form");
                None
            }
            _ => {
                self.error(raw.line_span, "SHELL requires at least one argument");
                None
            }
        }
    }

    fn volume(&mut self, raw: &Raw) -> Option<Kind> {
        let words = self.words(raw, "VOLUME")?;
        if let Some(blank) = words.iter().find(|w| w.value.trim().is_empty()) {
            self.error(blank.span, "a volume can not be an empty string");
            return None;
        }
        Some(Kind::Volume(words))
    }

    fn run(&mut self, raw: &Raw) -> Option<Run> {
        let mut flags = self.flags(
            raw,
            &[
                ("mount", Flag::List),
                ("network", Flag::Text),
                ("security", Flag::Text),
                ("device", Flag::List),
                ("ttl", Flag::Text),
            ],
        )?;
        let mut choice = |name: &'static str, values: &'static [&'static str]| {
            let word = flags.text(name)?;
            if !values.contains(&word.value.as_str()) {
                let message = format!("unsupported value {:?} for --{name}", word.value);
                let error = Diagnostic::error(word.span, message);
                self.diagnostics.push(error.suggest(&word.value, values.iter().copied()));
            }
            Some(word)
        };
        let network = choice("network", &["default", "none", "host"]);
        let security = choice("security", &["sandbox", "insecure"]);
        let ttl = flags.text("ttl");
        if let Some(word) = ttl.as_ref().filter(|word| parse_age(&word.value).is_none()) {
            let message = format!("invalid age {:?} for --ttl", word.value);
            self.diagnostics.push(Diagnostic::error(word.span, message).help(AGES));
        }
        let devices = flags.list("device");
        let mounts = flags.list("mount").iter().filter_map(|m| self.mount(m)).collect();
        let command = command(&raw.args);
        // A shell form may be empty: the shell runs an empty text then.
        if command.args.is_empty() && !command.shell {
            self.error(raw.line_span, "RUN requires a command");
            return None;
        }
        Some(Run { command, mounts, network, security, devices, ttl })
    }

    fn from(&mut self, raw: &Raw) -> Option<From> {
        let mut flags = self.flags(raw, &[("platform", Flag::Text)])?;
        let platform = flags.text("platform");
        let words = match &raw.args {
            Args::Words(words) => words.as_slice(),
            _ => &[],
        };
        match words {
            [base] => Some(From { base: base.clone(), platform, name: None }),
            [base, between, name] if between.value.eq_ignore_ascii_case("as") => {
                self.stage_name(raw, between, name)?;
                Some(From { base: base.clone(), platform, name: Some(name.clone()) })
            }
            _ => {
                self.error(raw.line_span, "FROM requires either one or three arguments");
                None
            }
        }
    }

    fn stage_name(&mut self, raw: &Raw, between: &Word, name: &Word) -> Option<()> {
        let lower = name.value.to_lowercase();
        let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
            && lower.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
            });
        if !valid {
            let message = format!("invalid name for a build stage: {:?}", name.value);
            let help = "it starts with a letter and has letters, digits, \"-\", \"_\" and \".\"";
            self.diagnostics.push(Diagnostic::error(name.span, message).help(help));
            return None;
        }
        if lower != name.value {
            let warning = warning::stage_name_casing(name.span, &name.value);
            self.diagnostics.push(warning.help(format!("write {lower}")));
        }
        let keyword = &raw.keyword.value;
        let upper = |word: &str| word.bytes().all(|b| b.is_ascii_uppercase());
        let lowercase = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase());
        if (upper(keyword) && !upper(&between.value))
            || (lowercase(keyword) && !lowercase(&between.value))
        {
            let warning = warning::from_as_casing(between.span, keyword, &between.value);
            self.diagnostics.push(warning);
        }
        Some(())
    }

    fn onbuild(&mut self, raw: &Raw) -> Option<Onbuild> {
        self.flags(raw, &[])?;
        let Args::Sub(sub) = &raw.args else {
            self.error(raw.line_span, "ONBUILD requires at least one argument");
            return None;
        };
        let keyword = sub.keyword.value.to_ascii_uppercase();
        match keyword.as_str() {
            "ONBUILD" => {
                self.error(sub.span, "ONBUILD can not be chained: ONBUILD ONBUILD");
                return None;
            }
            "FROM" | "MAINTAINER" => {
                self.error(sub.span, format!("{keyword} isn't allowed as an ONBUILD trigger"));
                return None;
            }
            _ => {}
        }
        let mut expression = sub.text.clone();
        for doc in &raw.heredocs {
            expression.push('\n');
            expression.push_str(&doc.content);
            expression.push_str(&doc.name);
        }
        let mut inner = (**sub).clone();
        inner.heredocs.clone_from(&raw.heredocs);
        // What is wrong with it is for those who build on the image (BuildKit keeps the text).
        let told = self.diagnostics.len();
        let trigger = self.instruction(inner);
        let mut later = self.diagnostics.split_off(told);
        later.retain(|d| !d.is_error());
        self.diagnostics.append(&mut later);
        Some(Onbuild { expression, trigger: Box::new(trigger) })
    }
}

/// A command in shell or exec form.
fn command(args: &Args) -> Command {
    match args {
        Args::Json(words) => Command { args: words.clone(), shell: false },
        Args::Text(word) => Command { args: vec![word.clone()], shell: true },
        _ => Command { args: Vec::new(), shell: true },
    }
}

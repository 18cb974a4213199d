//! The instructions that write the config: all but RUN, COPY and ADD. (WORKDIR makes a
//! directory too.)

use graph::{FileAction, FileOp, MkdirAction, Op};
use oci::config::{Empty, Healthcheck};

use super::environment::NOT_EXPORTED;
use super::history::{plain, quoted};
use super::names;
use super::stage::{StageLowering, Step, fail};
use crate::Diagnostic;
use crate::ast::{self, ArgItem, Command, Instruction, Kind, Pair, Word};
use crate::lint::{stage, warning};
use crate::value::{is_signal, parse_ports, show_duration};
use crate::word::Variables;

/// The shell of commands in shell form, unless SHELL says otherwise (Docker's for Linux).
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A path below `dir` unless it is absolute; without `.`, `..` and a trailing slash.
pub(super) fn join(dir: &str, path: &str) -> String {
    let dir = if dir.is_empty() { "/" } else { dir };
    if path.starts_with('/') {
        return graph::pattern::clean(path);
    }
    graph::pattern::clean(&format!("{dir}/{path}"))
}

/// The number of a user or group whose name needs no look-up: BuildKit never looks for root's.
pub(super) fn known_id(name: &str) -> &str {
    if name == "root" { "0" } else { name }
}

/// The owner of what WORKDIR creates, from USER's value. The number of a user alone is that of
/// the group too, as for `--chown` (BuildKit); RUN takes the group from `/etc/passwd` instead.
fn owner(user: &str) -> String {
    match user.split_once(':') {
        Some((user, "")) => format!("{}:0", known_id(user)),
        Some((user, group)) => format!("{}:{}", known_id(user), known_id(group)),
        None => {
            let id = known_id(user);
            let number = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
            if number { format!("{id}:{id}") } else { id.to_owned() }
        }
    }
}

impl StageLowering<'_, '_> {
    pub(super) fn metadata(&mut self, instruction: &Instruction) -> Step<()> {
        match &instruction.kind {
            Kind::Arg(items) => self.arg(instruction, items),
            Kind::Env(pairs) => self.env(instruction, pairs),
            Kind::Label(pairs) => self.label(instruction, pairs),
            Kind::Workdir(word) => self.workdir(instruction, word),
            Kind::User(word) => {
                let user = self.expand(instruction, word)?;
                self.note(format!("USER {user}"));
                self.state.config.user = user;
                Ok(())
            }
            Kind::Cmd(command) => {
                let args = self.command(instruction, command);
                self.note(format!("CMD {}", quoted(&args)));
                self.state.config.cmd = Some(args);
                self.state.cmd_set = true;
                Ok(())
            }
            Kind::Entrypoint(command) => {
                let args = self.command(instruction, command);
                self.note(format!("ENTRYPOINT {}", quoted(&args)));
                self.state.config.entrypoint = Some(args).filter(|a| !a.is_empty());
                if !self.state.cmd_set {
                    self.state.config.cmd = None;
                }
                Ok(())
            }
            Kind::Shell(words) => {
                let shell: Vec<String> = words.iter().map(|w| w.value.clone()).collect();
                self.note(format!("SHELL {}", plain(&shell)));
                self.state.config.shell = Some(shell);
                Ok(())
            }
            Kind::Expose(words) => self.expose(instruction, words),
            Kind::Volume(words) => {
                let volumes = self.expand_all(instruction, words)?;
                if volumes.iter().any(String::is_empty) {
                    return fail(instruction.line_span, "a volume can not be an empty string");
                }
                self.note(format!("VOLUME {}", plain(&volumes)));
                self.state.config.volumes.extend(volumes.into_iter().map(|v| (v, Empty {})));
                Ok(())
            }
            Kind::StopSignal(word) => {
                let signal = self.expand(instruction, word)?;
                if !is_signal(&signal) {
                    return fail(word.span, format!("invalid signal: {signal}"));
                }
                self.note(format!("STOPSIGNAL {signal}"));
                self.state.config.stop_signal = signal;
                Ok(())
            }
            Kind::Healthcheck(check) => {
                self.healthcheck(check);
                Ok(())
            }
            Kind::Onbuild(onbuild) => {
                self.state.config.on_build.push(onbuild.expression.clone());
                Ok(())
            }
            Kind::Maintainer(word) => {
                self.note(format!("MAINTAINER {}", word.value));
                self.state.author = Some(word.value.clone());
                Ok(())
            }
            // The others are not metadata, or do not stand in a stage.
            _ => Ok(()),
        }
    }

    fn arg(&mut self, instruction: &Instruction, items: &[ArgItem]) -> Step<()> {
        let mut shown = String::from("ARG");
        for item in items {
            let name = item.name.value.as_str();
            self.warn_all(stage::secret(item.name.span, "ARG", name), instruction);
            let value = match (self.all.options.build_args.get(name), &item.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(instruction, default)?),
                (None, None) => self.all.plan.globals.get(name).map(str::to_owned),
            };
            shown.push(' ');
            shown.push_str(name);
            if let Some(value) = &value {
                shown.push('=');
                shown.push_str(value);
                if !NOT_EXPORTED.contains(&name) {
                    self.state.env.set(name, value.clone());
                }
            }
            self.state.declared.set(name, value);
        }
        self.note(shown);
        Ok(())
    }

    /// Names and values, all expanded with the environment before the instruction.
    fn pairs(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Step<Vec<(String, String)>> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            if pair.legacy {
                let keyword = &instruction.keyword.value;
                let warning = warning::legacy_pair(instruction.line_span, keyword);
                let written = format!("{keyword} {}=\"{}\"", pair.key.value, pair.value.value);
                self.warn(warning.help(format!("write {written}")), instruction);
            }
            let key = self.expand(instruction, &pair.key)?;
            if key.is_empty() {
                return fail(pair.key.span, "a name can not be blank");
            }
            expanded.push((key, self.expand(instruction, &pair.value)?));
        }
        Ok(expanded)
    }

    fn env(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Step<()> {
        let mut shown = String::from("ENV");
        for ((key, value), pair) in self.pairs(instruction, pairs)?.into_iter().zip(pairs) {
            self.warn_all(stage::secret(pair.key.span, "ENV", &key), instruction);
            shown.push_str(&format!(" {key}={value}"));
            self.state.config_env.set(&key, value.clone());
            self.state.env.set(&key, value);
        }
        self.note(shown);
        Ok(())
    }

    fn label(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Step<()> {
        let mut shown = String::from("LABEL");
        for (key, value) in self.pairs(instruction, pairs)? {
            shown.push_str(&format!(" {key}={value}"));
            self.state.config.labels.insert(key, value);
        }
        self.note(shown);
        Ok(())
    }

    fn workdir(&mut self, instruction: &Instruction, word: &Word) -> Step<()> {
        let path = self.expand(instruction, word)?;
        if !self.state.workdir_set && !path.starts_with('/') {
            self.warn(warning::relative_workdir(word.span, &path), instruction);
        }
        self.state.workdir_set = true;
        let path = join(&self.state.config.working_dir, &path);
        self.state.config.working_dir.clone_from(&path);
        let text = format!("WORKDIR {path}");
        if path == "/" {
            self.note(text);
            return Ok(());
        }
        let shown = names::shown(instruction, &self.lexer, &self.state.env);
        let name = self.names.next(&shown, self.trigger != 0);
        let meta = self.step_meta(instruction, name, &shown, None);
        let mkdir = MkdirAction { path, mode: 0o755, user: owner(&self.state.config.user) };
        let root = self.state.root.map(|_| 0);
        let op = Op::File(FileOp { root, actions: vec![FileAction::Mkdir(mkdir)] });
        self.step(op, self.state.root.into_iter().collect(), meta, text);
        Ok(())
    }

    fn expose(&mut self, instruction: &Instruction, words: &[Word]) -> Step<()> {
        let mut ports = Vec::new();
        for word in words {
            for port in self.expand_with(self.lexer, instruction, word)?.words {
                self.warn_all(stage::port(word.span, &port), instruction);
                let parsed = parse_ports(&port);
                ports.extend(parsed.map_err(|e| Box::new(Diagnostic::error(word.span, e)))?);
            }
        }
        self.note(format!("EXPOSE {}", plain(&ports)));
        self.state.config.exposed_ports.extend(ports.into_iter().map(|p| (p, Empty {})));
        Ok(())
    }

    fn healthcheck(&mut self, check: &ast::Healthcheck) {
        let health = match check {
            ast::Healthcheck::None => {
                Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }
            }
            ast::Healthcheck::Check {
                command,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            } => {
                let kind = if command.shell { "CMD-SHELL" } else { "CMD" };
                let words = command.args.iter().map(|w| w.value.clone());
                Healthcheck {
                    test: std::iter::once(kind.to_owned()).chain(words).collect(),
                    interval: *interval,
                    timeout: *timeout,
                    start_period: *start_period,
                    start_interval: *start_interval,
                    retries: *retries,
                }
            }
        };
        self.note(format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            plain(&health.test),
            show_duration(health.interval),
            show_duration(health.timeout),
            show_duration(health.start_period),
            show_duration(health.start_interval),
            health.retries
        ));
        self.state.config.healthcheck = Some(health);
    }

    /// The arguments of CMD and ENTRYPOINT.
    fn command(&mut self, instruction: &Instruction, command: &Command) -> Vec<String> {
        let args: Vec<String> = command.args.iter().map(|w| w.value.clone()).collect();
        if !command.shell {
            return args;
        }
        if self.state.config.shell.as_ref().is_none_or(Vec::is_empty) {
            let keyword = &instruction.keyword.value;
            self.warn(warning::json_args(instruction.line_span, keyword), instruction);
        }
        self.with_shell(args.into_iter().next().unwrap_or_default())
    }

    /// The shell's arguments for a text.
    pub(super) fn with_shell(&self, text: String) -> Vec<String> {
        let mut args = match &self.state.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => DEFAULT_SHELL.map(str::to_owned).to_vec(),
        };
        args.push(text);
        args
    }
}

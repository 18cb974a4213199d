//! RUN.

use graph::{ExecDevice, ExecFile, ExecOp, NetworkMode, Op, SecurityMode};

use super::stage::{StageLowering, Step};
use super::{Entitlement, mount, names};
use crate::Diagnostic;
use crate::ast::{Instruction, Run, Word};
use crate::syntax::heredoc;
use crate::value::parse_age;
use crate::word::{Lexer, Variables};

/// The host name that RUN sees unless the build says otherwise (BuildKit's).
const DEFAULT_HOSTNAME: &str = "buildkitsandbox";

/// Where a here-document with a shebang appears.
const SCRIPTS: &str = "/dev/pipes";

/// What a RUN runs.
struct Program {
    args: Vec<String>,
    /// As the history has it.
    shown: Vec<String>,
    files: Vec<ExecFile>,
    /// What the vertex's name adds.
    note: String,
}

impl StageLowering<'_, '_> {
    pub(super) fn run(&mut self, instruction: &Instruction, run: &Run) -> Step<()> {
        let program = self.program(instruction, run);
        let network = self.network(run)?;
        let security = self.security(run)?;
        let devices = self.devices(instruction, run)?;
        let mounts = self.mounts(instruction, run)?;
        let env = &self.state.env;
        let declared = |name: &str| env.get(name).is_some();
        let proxy = self.all.proxy.iter().filter(|(name, _)| !declared(name)).cloned().collect();
        let mut environment = env.by_last_set();
        environment.extend(mounts.env);
        let options = self.all.options;
        let hostname = options.hostname.clone();
        let hostname =
            hostname.or_else(|| options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned());
        let op = ExecOp {
            root: self.state.root.map(|_| 0),
            args: program.args,
            env: environment,
            proxy_env: proxy,
            cwd: self.state.config.working_dir.clone(),
            user: self.state.config.user.clone(),
            network,
            security,
            hostname: hostname.unwrap_or_else(|| DEFAULT_HOSTNAME.to_owned()),
            extra_hosts: options.extra_hosts.clone(),
            platform: self.state.platform.clone(),
            mounts: mounts.list,
            files: program.files,
            devices,
        };
        let display = Lexer { raw_quotes: true, skip_unset: true, ..self.lexer };
        let shown = names::shown(instruction, &display, env) + &program.note;
        let history = self.history_text(&program.shown);
        let name = self.names.next(&shown, self.trigger != 0);
        let own = run.ttl.as_ref().and_then(|word| parse_age(&word.value));
        let meta = self.step_meta(instruction, name, &shown, own);
        let inputs = self.state.root.into_iter().chain(mounts.inputs).collect();
        self.step(Op::Exec(op), inputs, meta, history);
        Ok(())
    }

    /// The grammar knows all modes.
    fn network(&self, run: &Run) -> Step<NetworkMode> {
        match &run.network {
            Some(word) if word.value == "none" => Ok(NetworkMode::None),
            Some(word) if word.value == "host" => {
                self.entitled(Entitlement::NetworkHost, "--network=host", word)?;
                Ok(NetworkMode::Host)
            }
            _ => Ok(self.all.options.network),
        }
    }

    fn security(&self, run: &Run) -> Step<SecurityMode> {
        match &run.security {
            Some(word) if word.value == "insecure" => {
                self.entitled(Entitlement::SecurityInsecure, "--security=insecure", word)?;
                Ok(SecurityMode::Insecure)
            }
            _ => Ok(SecurityMode::Sandbox),
        }
    }

    fn devices(&mut self, instruction: &Instruction, run: &Run) -> Step<Vec<ExecDevice>> {
        let mut devices = Vec::with_capacity(run.devices.len());
        for word in &run.devices {
            let text = self.expand(instruction, word)?;
            devices.push(mount::device(&text, word)?);
        }
        Ok(devices)
    }

    /// Makes sure that whoever started the build allows what a step wants beyond the sandbox.
    fn entitled(&self, needed: Entitlement, flag: &str, word: &Word) -> Step<()> {
        if self.all.options.allow.contains(&needed) {
            return Ok(());
        }
        let name = needed.name();
        let error = Diagnostic::error(word.span, format!("RUN {flag}: {name} is not allowed"));
        Err(Box::new(error.help(format!("build with --allow {name} if you trust this Dockerfile"))))
    }

    fn program(&self, instruction: &Instruction, run: &Run) -> Program {
        let words = || run.command.args.iter().map(|w| w.value.clone());
        let plain = |args: Vec<String>| Program {
            shown: args.clone(),
            args,
            files: Vec::new(),
            note: String::new(),
        };
        if !run.command.shell {
            return plain(words().collect());
        }
        let text = words().next().unwrap_or_default();
        let Some(doc) = instruction.heredocs.first() else { return plain(self.with_shell(text)) };
        if heredoc::parse(&text).is_none() {
            // The shell reads the here-documents of a longer command itself.
            let mut whole = text;
            for doc in &instruction.heredocs {
                whole.push('\n');
                whole.push_str(&doc.content);
                whole.push_str(&doc.name);
            }
            return plain(self.with_shell(whole));
        }
        let data = doc.data();
        let note = format!(" ({})", names::summary(doc));
        if !data.starts_with("#!") {
            return Program { note, ..plain(self.with_shell(data)) };
        }
        let path = format!("{SCRIPTS}/{}", doc.name);
        let files = vec![ExecFile { path: path.clone(), mode: 0o755, data }];
        Program { args: vec![path.clone()], shown: self.with_shell(path), files, note }
    }

    /// `RUN |2 A=1 B=2 /bin/sh -c make # buildkit`, with the values that the process sees.
    fn history_text(&self, args: &[String]) -> String {
        let declared = &self.state.declared.list;
        let mut text = String::from("RUN ");
        if !declared.is_empty() {
            text.push_str(&format!("|{} ", declared.len()));
        }
        for (name, value) in declared {
            let value = self.state.env.get(name).or(value.as_deref()).unwrap_or_default();
            text.push_str(&format!("{name}={value} "));
        }
        text.push_str(&args.join(" "));
        text.push_str(" # buildkit");
        text
    }
}

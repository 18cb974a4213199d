//! Whether two trees say the same, wherever it stands.

use graph::Span;

use super::{
    Command, Dockerfile, From, Healthcheck, Instruction, Kind, Mount, Pair, Run, Switch, Transfer,
    Word,
};

impl Dockerfile {
    /// Whether both trees are equal but for spans, comments and the layout of
    /// [`Instruction::text`].
    pub fn same_as(&self, other: &Self) -> bool {
        let directives = |file: &Self| {
            let check = file.directives.check.as_ref();
            let syntax = file.directives.syntax.as_ref();
            (
                syntax.map(|s| s.value.clone()),
                file.directives.escape,
                check.map(|c| {
                    (c.text.value.clone(), c.skip.clone(), c.experimental.clone(), c.error)
                }),
            )
        };
        let instructions = || self.instructions.iter().zip(&other.instructions);
        directives(self) == directives(other)
            && self.instructions.len() == other.instructions.len()
            && instructions().all(|(a, b)| a.unplaced() == b.unplaced())
    }
}

impl Instruction {
    /// The same without spans, comments and text.
    pub(super) fn unplaced(&self) -> Self {
        let mut bare = self.clone();
        bare.keyword.unplace();
        bare.kind.unplace();
        bare.text.clear();
        bare.comments.clear();
        bare.heredocs.iter_mut().for_each(|doc| doc.span = Span::default());
        Self { span: Span::default(), line_span: Span::default(), ..bare }
    }
}

/// Forgets where it stands.
trait Unplace {
    fn unplace(&mut self);
}

impl<T: Unplace> Unplace for Option<T> {
    fn unplace(&mut self) {
        if let Some(it) = self {
            it.unplace();
        }
    }
}

impl<T: Unplace> Unplace for Vec<T> {
    fn unplace(&mut self) {
        self.iter_mut().for_each(Unplace::unplace);
    }
}

impl Unplace for Word {
    fn unplace(&mut self) {
        self.span = Span::default();
    }
}

impl Unplace for Switch {
    fn unplace(&mut self) {
        self.span = Span::default();
    }
}

impl Unplace for Mount {
    fn unplace(&mut self) {
        self.span = Span::default();
    }
}

impl Unplace for Pair {
    fn unplace(&mut self) {
        self.key.unplace();
        self.value.unplace();
    }
}

impl Unplace for Command {
    fn unplace(&mut self) {
        self.args.unplace();
    }
}

impl Unplace for From {
    fn unplace(&mut self) {
        self.base.unplace();
        self.platform.unplace();
        self.name.unplace();
    }
}

impl Unplace for Transfer {
    fn unplace(&mut self) {
        self.sources.unplace();
        self.inline.iter_mut().for_each(|doc| doc.span = Span::default());
        self.dest.unplace();
        for word in [&mut self.from, &mut self.chown, &mut self.chmod, &mut self.checksum] {
            word.unplace();
        }
        self.exclude.unplace();
        for switch in [&mut self.link, &mut self.parents, &mut self.keep_git_dir, &mut self.unpack]
        {
            switch.unplace();
        }
    }
}

impl Unplace for Run {
    fn unplace(&mut self) {
        self.command.unplace();
        self.mounts.unplace();
        self.network.unplace();
        self.security.unplace();
        self.devices.unplace();
        self.ttl.unplace();
    }
}

impl Unplace for Kind {
    fn unplace(&mut self) {
        match self {
            Self::Add(transfer) | Self::Copy(transfer) => transfer.unplace(),
            Self::Arg(items) => items.iter_mut().for_each(|item| {
                item.name.unplace();
                item.default.unplace();
            }),
            Self::Cmd(command) | Self::Entrypoint(command) => command.unplace(),
            Self::Env(pairs) | Self::Label(pairs) => pairs.unplace(),
            Self::Expose(words) | Self::Shell(words) | Self::Volume(words) => words.unplace(),
            Self::From(from) => from.unplace(),
            Self::Healthcheck(Healthcheck::Check { command, .. }) => command.unplace(),
            Self::Healthcheck(Healthcheck::None) | Self::Invalid => {}
            Self::Maintainer(text)
            | Self::StopSignal(text)
            | Self::User(text)
            | Self::Workdir(text) => text.unplace(),
            Self::Onbuild(onbuild) => *onbuild.trigger = onbuild.trigger.unplaced(),
            Self::Run(run) => run.unplace(),
        }
    }
}

//! The commands: from parsed arguments to an exit status.

pub mod build;
mod call;
mod dockerfile;
mod epoch;
mod explain;
mod export;
mod failure;
mod images;
mod info;
mod kept;
mod load_context;
mod load_into;
mod logs;
mod lowering;
mod one_id;
mod plan;
mod remote;
mod session;
mod stdin;
mod store;
mod task;
mod usage;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{self, Command};
use crate::console;
use crate::environment::Environment;
use crate::rootless::{self, Entered, Host, Unavailable};
use crate::version;
use failure::Failure;

/// Does what a command line asks for. Status 0 when everything asked for was done, else 1.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match args::parse(args) {
        Ok(cli) => cli,
        Err(usage) if usage.mistake => {
            console::err(usage.text.trim_end());
            return ExitCode::FAILURE;
        }
        Err(usage) => return finish(console::out(&usage.text).map_err(Failure::output), false),
    };
    let debug = cli.global.debug;
    let stores = !matches!(cli.command, Command::Version | Command::Info(_) | Command::Logs(_));
    let context = match Context::new(cli.global, stores) {
        Ok(context) => context,
        Err(failure) => return finish(Err(failure), debug),
    };
    cache::on_long_wait(console::err);
    let result = match cli.command {
        Command::Build(args) => build::run(&args, &context),
        Command::Images(args) => store::images(&args, &context),
        Command::Inspect(args) => store::inspect(&args, &context),
        Command::Tag(args) => store::tag(&args, &context),
        Command::Rmi(args) => store::rmi(&args, &context),
        Command::Load(args) => store::load(&args, &context),
        Command::Push(args) => store::push(&args, &context),
        Command::Pull(args) => store::pull(&args, &context),
        Command::Du(args) => usage::du(&args, &context),
        Command::Prune(args) => usage::prune(&args, &context),
        Command::Verify => verify::run(&context),
        Command::Logs(args) => logs::run(&args, &context),
        Command::Explain(args) => explain::run(&args, &context),
        Command::Info(args) => info::run(&args, &context),
        Command::Version => console::out(&version::text()).map_err(Failure::output),
    };
    finish(result, debug)
}

/// What every command gets.
pub(crate) struct Context {
    pub(crate) global: args::GlobalArgs,
    pub(crate) environment: Environment,
    /// The user that started this process: in a user namespace of its own it is 0 now.
    pub(crate) uid: u32,
    /// Why an ordinary user has no user namespace.
    pub(crate) unavailable: Option<Unavailable>,
    /// Why an ordinary user has a user namespace with one id only.
    pub(crate) one_id: Option<Unavailable>,
}

impl Context {
    /// Enters a user namespace where an ordinary user has a use for it (`stores`): snapshots
    /// belong to many users. Before any thread is started.
    fn new(global: args::GlobalArgs, stores: bool) -> Result<Self, Failure> {
        let environment = Environment::of_process();
        let uid = rustix::process::geteuid().as_raw();
        let mut context = Self { global, environment, uid, unavailable: None, one_id: None };
        if stores && !context.is_root() {
            let host = Host::of_process(&context.environment);
            match rootless::enter(&host)? {
                Entered::Ranges => {}
                Entered::One(missing) => context.one_id = Some(missing),
                Entered::Outside(unavailable) => context.unavailable = Some(unavailable),
            }
        }
        Ok(context)
    }

    /// Whether root started this process.
    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }
}

fn finish(result: Result<(), Failure>, debug: bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(debug);
            ExitCode::FAILURE
        }
    }
}

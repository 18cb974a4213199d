//! Programs that are used where they are there, and what they would make possible.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Access, access};

use super::report::{Program, Report, Tier};
use crate::environment::Environment;
use crate::rootless;

/// Name, what it is used for, and how to get it.
const PROGRAMS: [(&str, &str, &str); 6] = [
    ("newuidmap", "ranges of ids for ordinary users", "uidmap"),
    ("newgidmap", "ranges of ids for ordinary users", "uidmap"),
    (FUSE, "snapshots where overlayfs does not work", FUSE),
    ("pasta", "the network mode isolated", "passt"),
    ("git", "git contexts and ADD of repositories", "git"),
    ("ssh", "git over ssh", "openssh-client"),
];
const FUSE: &str = "fuse-overlayfs";
const TUN: &str = "/dev/net/tun";

/// Looks for them.
pub(super) fn look(report: &mut Report, environment: &Environment) {
    let path = environment.variable("PATH");
    for (name, use_for, package) in PROGRAMS {
        let found = rootless::find(name, path).map(|it| it.display().to_string());
        if found.is_none() && wanted(name, report) {
            report.hints.push(format!("for {use_for}, install {name}: `apt install {package}`"));
        }
        let (name, use_for) = (name.to_owned(), use_for.to_owned());
        report.programs.push(Program { name, use_for, path: found });
    }
    isolated(report);
    let served = report.programs.iter().any(|it| it.name == FUSE && it.path.is_some());
    if served && plain_copies(report) && !report.snapshots.decided {
        report.hints.push(format!(
            "overlays of the program {FUSE} can be asked for: `drydock build --snapshotter {FUSE}`"
        ));
    }
    let socket = environment.variable("SSH_AUTH_SOCK").filter(|it| !it.is_empty());
    let is_socket =
        |path: &&str| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    report.ssh_agent = socket.filter(is_socket).map(str::to_owned);
}

/// What is missing of the others is told by what misses it.
fn wanted(name: &str, report: &Report) -> bool {
    match name {
        "newuidmap" | "newgidmap" => false,
        FUSE => plain_copies(report),
        _ => true,
    }
}

/// Whether an ordinary user has no overlays of the kernel.
fn plain_copies(report: &Report) -> bool {
    report.snapshots.kind == "copy" && report.builds.tier != Tier::Root
}

/// `isolated` takes a program and a device.
fn isolated(report: &mut Report) {
    let missing = if report.programs.iter().any(|it| it.name == "pasta" && it.path.is_none()) {
        Some("the program pasta is not installed".to_owned())
    } else if !Path::new(TUN).exists() {
        Some(format!("there is no {TUN}"))
    } else if access(TUN, Access::READ_OK | Access::WRITE_OK).is_err() {
        Some(format!("{TUN} cannot be opened by this user"))
    } else {
        None
    };
    let mode = report.networks.iter_mut().find(|it| it.name == "isolated" && it.available);
    let (Some(mode), Some(missing)) = (mode, missing) else { return };
    (mode.available, mode.reason) = (false, Some(missing));
    if !Path::new(TUN).exists() || access(TUN, Access::READ_OK | Access::WRITE_OK).is_err() {
        report.hints.push(format!(
            "for the network mode isolated, let this user open {TUN}, as root: `modprobe tun; chmod \
             0666 {TUN}` (in a container: --device {TUN})"
        ));
    }
}

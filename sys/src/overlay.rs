//! Detached overlay mounts of any number of layers.
//!
//! Kernels that know `lowerdir+` take one layer per `fsconfig(2)` call. On others one
//! `fsconfig` string ends at 256 bytes and `mount(2)` at one page, so a helper thread with its
//! own mount namespace opens every layer and names them by descriptor number, relative to
//! `/proc/self/fd`: four bytes a layer, and no path has to be escaped.
//!
//! An overlay takes 500 lower directories, one of which may be an overlay itself. So beyond that
//! the lowest ones are mounted by themselves. What they remove is removed there, and what is above
//! them removes as ever.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsOpenFlags, MountFlags as RawFlags, MountPropagationFlags, fsconfig_set_string, fsopen, mount,
    mount_change,
};
use rustix::thread::UnshareFlags;

use crate::detached::{self, FsContext, Propagation};
use crate::mount::{self, MountError, MountFlags, Overlay, c_string};

/// As many lower directories has one overlay (Linux: `fs/overlayfs/params.h`, `OVL_MAX_STACK`).
pub const MAX_LOWERS: usize = 500;
/// As many have two, one in the other; three are refused (Linux: `FILESYSTEM_MAX_STACK_DEPTH`).
const MOST: usize = 2 * MAX_LOWERS - 1;
/// `mount(2)` takes one page of options, with the ending NUL.
const OPTION_BYTES: usize = 4095;
/// `fsconfig(2)` takes strings of 256 bytes, with the ending NUL.
const STRING_BYTES: usize = 255;

/// A detached mount of `overlay`: a plain bind when there is only one directory, since the kernel
/// refuses an overlay of a single lower one.
pub(crate) fn open(overlay: &Overlay, flags: MountFlags) -> Result<OwnedFd, MountError> {
    match (&overlay.lowers[..], &overlay.upper) {
        ([], None) => Err(MountError::EmptyOverlay),
        ([], Some(upper)) => mount::bind(&upper.dir, false, flags),
        ([only], None) => mount::bind(only, false, flags.read_only()),
        (lowers, _) if lowers.len() > MOST => {
            Err(MountError::TooManyLowers { layers: lowers.len(), most: MOST })
        }
        (lowers, _) if lowers.len() > MAX_LOWERS => {
            in_helper_thread(|| open_nested_in_own_namespace(overlay, flags))
        }
        _ if appends_layers() => open_by_appending(overlay, None, flags),
        _ => open_by_mount(overlay, flags),
    }
}

/// Whether this kernel's overlay takes layers one by one. Kernels before the new mount API of
/// overlay keep unknown keys until the end, so a key that nobody knows is tried as well.
pub fn appends_layers() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let Ok(context) = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) else { return false };
        fsconfig_set_string(&context, c"lowerdir+", c"/").is_ok()
            && fsconfig_set_string(&context, c"drydock-probe", c"1").is_err()
    })
}

fn redirect(overlay: &Overlay) -> &'static str {
    // `off` may still follow old redirects (a module parameter); with user.* marks anybody could
    // have planted one.
    match (overlay.redirects, overlay.user_xattr) {
        (true, _) => "on",
        (false, true) => "nofollow",
        (false, false) => "off",
    }
}

/// With the directory `lowest` below all others, if there is one.
pub(crate) fn open_by_appending(
    overlay: &Overlay,
    lowest: Option<BorrowedFd<'_>>,
    flags: MountFlags,
) -> Result<OwnedFd, MountError> {
    let context = FsContext::begin("overlay")?;
    let mut held = Vec::new();
    let redirect = c_string(redirect(overlay).as_ref())?;
    context.string(c"redirect_dir", &redirect)?;
    context.string(c"index", c"off")?;
    context.string(c"metacopy", c"off")?;
    if overlay.user_xattr {
        context.flag(c"userxattr")?;
    }
    for lower in &overlay.lowers {
        context.string(c"lowerdir+", &plain_name(lower, &mut held)?)?;
    }
    if let Some(lowest) = lowest {
        // Inode numbers of two file systems would be mixed, and the kernel's log be told each time.
        context.string(c"xino", c"off")?;
        context.descriptor(c"lowerdir+", lowest)?;
    }
    if let Some(upper) = &overlay.upper {
        context.string(c"upperdir", &plain_name(&upper.dir, &mut held)?)?;
        context.string(c"workdir", &plain_name(&upper.work, &mut held)?)?;
        if overlay.volatile {
            context.flag(c"volatile")?;
        }
    }
    context.finish(flags)
}

/// A name that fits into `fsconfig` and holds nothing that overlay would unescape: the path
/// itself, or else a descriptor's, which is kept in `held`.
fn plain_name(path: &Path, held: &mut Vec<OwnedFd>) -> Result<CString, MountError> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= STRING_BYTES && !bytes.contains(&b'\\') {
        return c_string(path.as_os_str());
    }
    let fd = open_layer(path)?;
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    held.push(fd);
    c_string(name.as_ref())
}

fn open_layer(path: &Path) -> Result<OwnedFd, MountError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| MountError::OpenLayer { path: path.to_path_buf(), errno })
}

/// For kernels without `lowerdir+`; needs `/proc`.
fn open_by_mount(overlay: &Overlay, flags: MountFlags) -> Result<OwnedFd, MountError> {
    in_helper_thread(|| mount_in_own_namespace(overlay, flags))
}

/// Has a thread open a mount that may change its mount namespace.
fn in_helper_thread(
    open: impl FnOnce() -> Result<OwnedFd, MountError> + Send,
) -> Result<OwnedFd, MountError> {
    std::thread::scope(|scope| {
        scope.spawn(open).join().unwrap_or(Err(MountError::Namespace {
            step: "helper thread",
            errno: rustix::io::Errno::CANCELED,
        }))
    })
}

/// Gives this thread a mount namespace of its own, from which nothing spreads.
fn enter_own_namespace() -> Result<(), MountError> {
    let failed = |step| move |errno| MountError::Namespace { step, errno };
    crate::namespace::unshare(UnshareFlags::NEWNS | UnshareFlags::FS).map_err(failed("unshare"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("make private"))
}

/// An overlay whose lowest directories are an overlay of their own. That one has to be attached
/// somewhere: before Linux 6.15 a directory of a detached mount cannot be a lower one.
fn open_nested_in_own_namespace(
    overlay: &Overlay,
    flags: MountFlags,
) -> Result<OwnedFd, MountError> {
    enter_own_namespace()?;
    let (above, lowest) = overlay.lowers.split_at(overlay.lowers.len() - MAX_LOWERS);
    let inner =
        Overlay { lowers: lowest.to_vec(), upper: None, volatile: false, ..overlay.clone() };
    let inner = open(&inner, MountFlags::default().read_only())?;
    // Any of its own directories will do as a place: nobody asks for that one by its name any more.
    let place = &lowest[0];
    detached::attach(&inner, place)?;
    let lowers = above.iter().chain([place]).cloned().collect();
    open(&Overlay { lowers, ..overlay.clone() }, flags)
}

fn mount_in_own_namespace(overlay: &Overlay, flags: MountFlags) -> Result<OwnedFd, MountError> {
    let failed = |step| move |errno| MountError::Namespace { step, errno };
    enter_own_namespace()?;
    // Opened after unshare: overlay takes directories of its own namespace only.
    let mut held = Vec::with_capacity(overlay.lowers.len() + 2);
    let mut options = String::from("index=off,metacopy=off,redirect_dir=");
    options.push_str(redirect(overlay));
    if overlay.user_xattr {
        options.push_str(",userxattr");
    }
    options.push_str(",lowerdir=");
    for (position, lower) in overlay.lowers.iter().enumerate() {
        let separator = if position == 0 { "" } else { ":" };
        add(&mut options, separator, lower, &mut held)?;
    }
    if let Some(upper) = &overlay.upper {
        add(&mut options, ",upperdir=", &upper.dir, &mut held)?;
        add(&mut options, ",workdir=", &upper.work, &mut held)?;
        if overlay.volatile {
            options.push_str(",volatile");
        }
    }
    if options.len() > OPTION_BYTES {
        let layers = overlay.lowers.len();
        return Err(MountError::TooManyLayers { layers, bytes: options.len() });
    }
    rustix::process::chdir("/proc/self/fd").map_err(failed("enter /proc/self/fd"))?;
    // Any directory will do as a place: the namespace is gone when this thread ends.
    let place = &overlay.lowers[0];
    let data = c_string(options.as_ref())?;
    mount("overlay", place, "overlay", RawFlags::empty(), data.as_c_str()).map_err(|errno| {
        MountError::Create { fs: "overlay", options: options.clone(), errno, log: String::new() }
    })?;
    let fd = detached::clone_tree(place, false)?;
    detached::set_attr(&fd, place, false, flags, Propagation::Private)?;
    Ok(fd)
}

fn add(
    options: &mut String,
    separator: &str,
    path: &Path,
    held: &mut Vec<OwnedFd>,
) -> Result<(), MountError> {
    let fd = open_layer(path)?;
    // Writing to a String cannot fail.
    let _ = write!(options, "{separator}{}", fd.as_raw_fd());
    held.push(fd);
    Ok(())
}

#[cfg(test)]
mod tests;

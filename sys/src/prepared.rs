//! What a child needs besides its program and would have to allocate: argument vectors, the
//! payload's first stack, the list of descriptors to keep.

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;

use rustix::fs::Gid;

use crate::program::Program;

/// The payload's stack before exec; its frames are small.
const STACK_BYTES: usize = 64 * 1024;

/// One aligned piece of the stack; written to by the payload alone, through its stack pointer.
#[repr(C, align(16))]
pub(crate) struct StackPiece {
    _bytes: UnsafeCell<[u8; 16]>,
}

pub(crate) struct Prepared {
    /// Ends with a null pointer; points into the program, which must stay where it is.
    pub(crate) args: Vec<*const c_char>,
    pub(crate) env: Vec<*const c_char>,
    pub(crate) groups: Vec<Gid>,
    /// Sorted.
    pub(crate) keep: Vec<RawFd>,
    pub(crate) report: RawFd,
    pub(crate) lifeline: RawFd,
    pub(crate) stack: Box<[StackPiece]>,
    pub(crate) title: Option<Title>,
}

/// Where the kernel reads the arguments of this process from for /proc/PID/cmdline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Title {
    pub(crate) start: usize,
    pub(crate) length: usize,
}

impl Prepared {
    pub(crate) fn new(program: &Program, report: BorrowedFd<'_>, lifeline: BorrowedFd<'_>) -> Self {
        let mut keep: Vec<RawFd> = program.fds.iter().map(AsRawFd::as_raw_fd).collect();
        keep.extend([report.as_raw_fd(), lifeline.as_raw_fd()]);
        keep.sort_unstable();
        let pieces = STACK_BYTES / size_of::<StackPiece>();
        Self {
            args: vector(&program.payload.args),
            env: vector(&program.payload.env),
            groups: program.payload.groups.iter().map(|&id| Gid::from_raw(id)).collect(),
            keep,
            report: report.as_raw_fd(),
            lifeline: lifeline.as_raw_fd(),
            stack: (0..pieces).map(|_| StackPiece { _bytes: UnsafeCell::new([0; 16]) }).collect(),
            title: *title(),
        }
    }
}

fn vector(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|it| it.as_ptr()).chain([ptr::null()]).collect()
}

/// Fields 48 and 49 of /proc/self/stat (proc_pid_stat(5)): start and end of the arguments.
fn title() -> &'static Option<Title> {
    static TITLE: OnceLock<Option<Title>> = OnceLock::new();
    TITLE.get_or_init(|| {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in field 2 may hold anything; field 3 follows its last parenthesis.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(48 - 3);
        let start: usize = fields.next()?.parse().ok()?;
        let end: usize = fields.next()?.parse().ok()?;
        let length = end.checked_sub(start)?;
        (start != 0 && length > 1).then_some(Title { start, length })
    })
}

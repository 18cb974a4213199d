//! The default system call filter: the rules in `profile.txt`, compiled to BPF.
//!
//! Neighbouring numbers with the same rule are merged and found by binary search: a call passes
//! about eight comparisons, and loading, where the kernel tries every number against the
//! filter, stays cheap.

use sys::seccomp::{ALLOW, ERRNO, Filter, Instruction, KILL_PROCESS, offset};

/// The rules and numbers, with their origin.
const PROFILE: &str = include_str!("seccomp/profile.txt");

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// PER_LINUX, PER_LINUX32, both with UNAME26, and the query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// Virtual machine sockets lead to the hypervisor, past every network namespace.
const AF_VSOCK: u32 = 40;

/// A machine's calling convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arch {
    /// `AUDIT_ARCH_*`.
    audit: u32,
    /// Column in the profile.
    column: usize,
}

const X86_64: Arch = Arch { audit: 0xc000_003e, column: 0 };
const I386: Arch = Arch { audit: 0x4000_0003, column: 1 };
const AARCH64: Arch = Arch { audit: 0xc000_00b7, column: 2 };

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Allow,
    Refuse,
    Unknown,
    Clone,
    Personality,
    Socket,
}

/// Numbers from `start` up to the next segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    start: u32,
    rule: Rule,
}

/// The filter for the machine this runs on; `None` where the profile has no numbers for it.
/// 32-bit programs have theirs on x86; x32 (numbers from 2^30) counts as unknown calls.
pub(crate) fn filter() -> Option<Filter> {
    let archs: &[Arch] = if cfg!(target_arch = "x86_64") {
        &[X86_64, I386]
    } else if cfg!(target_arch = "aarch64") {
        &[AARCH64]
    } else {
        &[]
    };
    if archs.is_empty() { None } else { Filter::new(&compile(archs)?) }
}

fn compile(archs: &[Arch]) -> Option<Vec<Instruction>> {
    let mut code = vec![Instruction::load(offset::ARCH)];
    for arch in archs {
        let mut block = vec![Instruction::load(offset::NUMBER)];
        block.extend(search(&segments(*arch)?));
        code.push(Instruction::equal(arch.audit, 1, 0));
        code.push(Instruction::jump(u32::try_from(block.len()).ok()?));
        code.append(&mut block);
    }
    code.push(Instruction::ret(KILL_PROCESS));
    Some(code)
}

/// The profile's lines for one architecture; `None` when the profile is damaged.
fn segments(arch: Arch) -> Option<Vec<Segment>> {
    let mut highest = None;
    let mut rules = Vec::new();
    for line in PROFILE.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["highest", number] = words[..] {
            highest = Some(number.parse::<usize>().ok()?);
            rules.resize(highest? + 1, Rule::Refuse);
            continue;
        }
        let [_, rule, numbers @ ..] = &words[..] else { return None };
        let number = *numbers.get(arch.column)?;
        if number == "-" {
            continue;
        }
        *rules.get_mut(number.parse::<usize>().ok()?)? = match *rule {
            "allow" => Rule::Allow,
            "enosys" => Rule::Unknown,
            "clone" => Rule::Clone,
            "personality" => Rule::Personality,
            "socket" => Rule::Socket,
            _ => return None,
        };
    }
    rules.push(Rule::Unknown);
    let mut merged: Vec<Segment> = Vec::new();
    for (start, rule) in rules.into_iter().enumerate() {
        if merged.last().is_none_or(|last| last.rule != rule) {
            merged.push(Segment { start: u32::try_from(start).ok()?, rule });
        }
    }
    highest.map(|_| merged)
}

/// Binary search over the segments; every branch ends in a verdict.
fn search(segments: &[Segment]) -> Vec<Instruction> {
    let (low, high) = segments.split_at(segments.len() / 2);
    let Some(first) = high.first() else { return vec![Instruction::ret(ERRNO | EPERM)] };
    if low.is_empty() {
        return verdict(first.rule);
    }
    let (mut low, mut high) = (search(low), search(high));
    let mut code = match u8::try_from(low.len()) {
        Ok(distance) => vec![Instruction::at_least(first.start, distance, 0)],
        // Too far for a conditional jump. The sum of all blocks is far below 2^32.
        Err(_) => {
            vec![Instruction::at_least(first.start, 0, 1), Instruction::jump(low.len() as u32)]
        }
    };
    code.append(&mut low);
    code.append(&mut high);
    code
}

fn verdict(rule: Rule) -> Vec<Instruction> {
    let (allow, refuse) = (Instruction::ret(ALLOW), Instruction::ret(ERRNO | EPERM));
    match rule {
        Rule::Allow => vec![allow],
        Rule::Refuse => vec![refuse],
        Rule::Unknown => vec![Instruction::ret(ERRNO | ENOSYS)],
        Rule::Clone => vec![
            Instruction::load(offset::argument(0)),
            Instruction::any_bit(CLONE_NAMESPACES, 0, 1),
            refuse,
            allow,
        ],
        Rule::Socket => vec![
            Instruction::load(offset::argument(0)),
            Instruction::equal(AF_VSOCK, 0, 1),
            refuse,
            allow,
        ],
        Rule::Personality => {
            let mut code = vec![Instruction::load(offset::argument(0))];
            for (number, value) in PERSONALITIES.into_iter().enumerate() {
                // Past the rest of the list and the refusal.
                let distance = (PERSONALITIES.len() - number) as u8;
                code.push(Instruction::equal(value, distance, 0));
            }
            code.extend([refuse, allow]);
            code
        }
    }
}

#[cfg(test)]
mod tests;

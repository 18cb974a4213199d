//! The compiled filter, run by a small BPF machine.

use super::*;

const EPERM_VERDICT: u32 = ERRNO | EPERM;
const ENOSYS_VERDICT: u32 = ERRNO | ENOSYS;

/// The verdict, and how many instructions it took.
fn run(code: &[Instruction], arch: u32, number: u32, argument: u32) -> (u32, usize) {
    let load = |at| match at {
        offset::NUMBER => number,
        offset::ARCH => arch,
        16 => argument,
        other => panic!("load of {other}"),
    };
    let (load_code, ret) = (Instruction::load(0).code, Instruction::ret(0).code);
    let (ja, ge) = (Instruction::jump(0).code, Instruction::at_least(0, 0, 0).code);
    let (eq, set) = (Instruction::equal(0, 0, 0).code, Instruction::any_bit(0, 0, 0).code);
    let (mut pc, mut word) = (0, 0);
    for steps in 1.. {
        let it = code[pc];
        pc += 1;
        let branch = |condition| usize::from(if condition { it.jt } else { it.jf });
        match it.code {
            c if c == load_code => word = load(it.k),
            c if c == ret => return (it.k, steps),
            c if c == ja => pc += it.k as usize,
            c if c == ge => pc += branch(word >= it.k),
            c if c == eq => pc += branch(word == it.k),
            c if c == set => pc += branch(word & it.k != 0),
            other => panic!("code {other}"),
        }
    }
    unreachable!()
}

#[test]
fn every_number_gets_its_rule() {
    for archs in [&[X86_64, I386][..], &[AARCH64]] {
        let code = compile(archs).unwrap();
        let mut longest = 0;
        for &arch in archs {
            let segments = segments(arch).unwrap();
            for number in 0..1000 {
                let at = segments.partition_point(|it| it.start <= number) - 1;
                let (verdict, steps) = run(&code, arch.audit, number, 0);
                longest = longest.max(steps);
                let expected = match segments[at].rule {
                    Rule::Refuse => EPERM_VERDICT,
                    Rule::Unknown => ENOSYS_VERDICT,
                    _ => ALLOW,
                };
                assert_eq!(verdict, expected, "{number}");
            }
        }
        assert!(longest <= 20, "{longest} instructions on one path");
        assert_eq!(run(&code, 0x1234, 0, 0).0, KILL_PROCESS);
    }
}

#[test]
fn known_calls() {
    let code = compile(&[X86_64, I386]).unwrap();
    let verdict = |number, argument| run(&code, X86_64.audit, number, argument).0;
    assert_eq!(verdict(0, 0), ALLOW, "read");
    assert_eq!(verdict(59, 0), ALLOW, "execve");
    assert_eq!(verdict(165, 0), EPERM_VERDICT, "mount");
    assert_eq!(verdict(272, 0), EPERM_VERDICT, "unshare");
    assert_eq!(verdict(308, 0), EPERM_VERDICT, "setns");
    assert_eq!(verdict(175, 0), EPERM_VERDICT, "init_module");
    assert_eq!(verdict(250, 0), EPERM_VERDICT, "keyctl");
    assert_eq!(verdict(248, 0), EPERM_VERDICT, "add_key");
    assert_eq!(verdict(425, 0), EPERM_VERDICT, "io_uring_setup");
    assert_eq!(verdict(435, 0), ENOSYS_VERDICT, "clone3");
    assert_eq!(verdict(467, 0), ENOSYS_VERDICT, "newer than the profile");
    assert_eq!(verdict(0x4000_0000, 0), ENOSYS_VERDICT, "read of x32");
    assert_eq!(verdict(u32::MAX, 0), ENOSYS_VERDICT);
    assert_eq!(verdict(56, 0x11), ALLOW, "clone with SIGCHLD");
    for namespace in [0x2_0000, 0x200_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(verdict(56, namespace | 0x11), EPERM_VERDICT, "{namespace:x}");
    }
    for value in PERSONALITIES {
        assert_eq!(verdict(135, value), ALLOW);
    }
    assert_eq!(verdict(135, 0x40_0000), EPERM_VERDICT, "ADDR_NO_RANDOMIZE");
    assert_eq!(verdict(41, 1), ALLOW, "unix socket");
    assert_eq!(verdict(41, AF_VSOCK), EPERM_VERDICT);
    let old = |number| run(&code, I386.audit, number, 0).0;
    assert_eq!(old(4), ALLOW, "write");
    assert_eq!(old(21), EPERM_VERDICT, "mount");
    assert_eq!(old(102), ALLOW, "socketcall");
}

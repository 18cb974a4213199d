//! Limits of RUN steps: `--memory` and its relatives, `--ulimit`, `--resource`.

use clap::Args;
use frontend::parse_size;
use worker::{CpuQuota, GroupLimits, Limits, NumberList, Parent, ResourceLimit, Swap, rlimit};

use super::{csv, suggest};

/// The least memory that a step may be given, in bytes (Docker's).
const MIN_MEMORY: u64 = 6 << 20;
/// Microseconds of a period when no other is given (the kernel's).
const DEFAULT_PERIOD: u64 = 100_000;
/// What the kernel takes as a period, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// The least processor time in a period, in microseconds (the kernel's).
const MIN_QUOTA: u64 = 1_000;
/// What the kernel takes as shares.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
/// The most processes that the kernel has ids for (PID_MAX_LIMIT).
const MAX_PIDS: u64 = 4 << 20;
/// The most processors that `cpus` may name.
const MAX_CPUS: u64 = 65_536;
/// The keys of `--resource`.
const KEYS: [&str; 9] = [
    "cpu-period",
    "cpu-quota",
    "cpu-shares",
    "cpus",
    "cpuset-cpus",
    "cpuset-mems",
    "memory",
    "memory-swap",
    "pids",
];

const LIMITS: &str = "Limits of each step";

/// The options that limit steps; `0` is no limit.
#[derive(Args, Clone, Debug, Default)]
pub struct LimitArgs {
    /// Memory of a step: bytes, or with k, m or g
    #[arg(short, long, value_name = "SIZE", value_parser = memory, help_heading = LIMITS)]
    memory: Option<u64>,
    /// Memory and swap together; -1 for all swap that there is [default: twice the memory]
    #[arg(long, value_name = "SIZE", value_parser = swap, allow_hyphen_values = true, help_heading = LIMITS)]
    memory_swap: Option<SwapArg>,
    /// Share of processor time when it is scarce (2 to 262144, usually 1024)
    #[arg(short = 'c', long, value_name = "N", value_parser = shares, help_heading = LIMITS)]
    cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period
    #[arg(long, value_name = "MICROSECONDS", value_parser = quota, allow_hyphen_values = true, help_heading = LIMITS)]
    cpu_quota: Option<u64>,
    /// Length of a period in microseconds (1000 to 1000000) [default: 100000]
    #[arg(long, value_name = "MICROSECONDS", value_parser = period, help_heading = LIMITS)]
    cpu_period: Option<u64>,
    /// Processors that a step may run on, such as 0-2,5
    #[arg(long, value_name = "LIST", value_parser = list, help_heading = LIMITS)]
    cpuset_cpus: Option<ListArg>,
    /// Memory nodes that a step may use, such as 0,1
    #[arg(long, value_name = "LIST", value_parser = list, help_heading = LIMITS)]
    cpuset_mems: Option<ListArg>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = LIMITS)]
    shm_size: Option<u64>,
    /// A resource limit, such as nofile=1024:2048; -1 is unlimited; may be repeated
    #[arg(long = "ulimit", value_name = "TYPE=SOFT[:HARD]", value_parser = ulimit, help_heading = LIMITS)]
    ulimits: Vec<ResourceLimit>,
    /// The control group that those of the steps are made in
    #[arg(long, value_name = "PATH", value_parser = parent, help_heading = LIMITS)]
    cgroup_parent: Option<ParentArg>,
    /// Several at once: memory=2g,cpus=1.5,pids=100 (also memory-swap, cpu-shares, cpu-quota,
    /// cpu-period, cpuset-cpus, cpuset-mems); may be repeated
    #[arg(long = "resource", value_name = "KEY=VALUE,…", value_parser = resource, help_heading = LIMITS)]
    resources: Vec<Resource>,
}

/// `--memory-swap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SwapArg {
    Default,
    Total(u64),
    Unlimited,
}

/// A list of processors or memory nodes; none is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ListArg(Option<NumberList>);

/// `--cgroup-parent`; none is the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ParentArg(Option<Parent>);

/// One `--resource`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resource {
    memory: Option<u64>,
    swap: Option<SwapArg>,
    shares: Option<u64>,
    quota: Option<u64>,
    period: Option<u64>,
    cpus: Option<u64>,
    cpuset_cpus: Option<ListArg>,
    cpuset_mems: Option<ListArg>,
    pids: Option<u64>,
}

impl LimitArgs {
    /// What is asked for, all together.
    ///
    /// # Errors
    /// If it does not go together.
    pub fn resolve(&self) -> Result<Limits, String> {
        let all = self.merged()?;
        let some = |value: Option<u64>| value.filter(|n| *n != 0);
        let memory = some(all.memory);
        let mut rlimits: Vec<ResourceLimit> = Vec::new();
        for limit in &self.ulimits {
            rlimits.retain(|it| it.resource != limit.resource);
            rlimits.push(*limit);
        }
        Ok(Limits {
            group: GroupLimits {
                memory,
                swap: swap_of(memory, all.swap)?,
                cpu: cpu_of(some(all.cpus), some(all.quota), some(all.period))?,
                cpu_shares: some(all.shares),
                cpus: all.cpuset_cpus.and_then(|l| l.0),
                mems: all.cpuset_mems.and_then(|l| l.0),
                pids: some(all.pids),
            },
            group_parent: self.cgroup_parent.clone().and_then(|p| p.0),
            shm_size: some(self.shm_size),
            rlimits,
        })
    }

    /// The options and `--resource`, of which the last of a key counts; one limit in both is a
    /// question that is not answered by guessing.
    fn merged(&self) -> Result<Resource, String> {
        let mut all = Resource::default();
        for one in self.resources.iter().cloned() {
            all = Resource {
                memory: one.memory.or(all.memory),
                swap: one.swap.or(all.swap),
                shares: one.shares.or(all.shares),
                quota: one.quota.or(all.quota),
                period: one.period.or(all.period),
                cpus: one.cpus.or(all.cpus),
                cpuset_cpus: one.cpuset_cpus.or(all.cpuset_cpus),
                cpuset_mems: one.cpuset_mems.or(all.cpuset_mems),
                pids: one.pids.or(all.pids),
            };
        }
        Ok(Resource {
            memory: either("memory", self.memory, all.memory)?,
            swap: either("memory-swap", self.memory_swap, all.swap)?,
            shares: either("cpu-shares", self.cpu_shares, all.shares)?,
            quota: either("cpu-quota", self.cpu_quota, all.quota)?,
            period: either("cpu-period", self.cpu_period, all.period)?,
            cpus: all.cpus,
            cpuset_cpus: either("cpuset-cpus", self.cpuset_cpus.clone(), all.cpuset_cpus)?,
            cpuset_mems: either("cpuset-mems", self.cpuset_mems.clone(), all.cpuset_mems)?,
            pids: all.pids,
        })
    }
}

fn either<T: PartialEq>(key: &str, flag: Option<T>, other: Option<T>) -> Result<Option<T>, String> {
    match (flag, other) {
        (Some(flag), Some(other)) if flag != other => {
            Err(format!("--{key} and --resource {key}= differ: give one of them"))
        }
        (flag, other) => Ok(flag.or(other)),
    }
}

fn swap_of(memory: Option<u64>, swap: Option<SwapArg>) -> Result<Option<Swap>, String> {
    match (swap, memory) {
        (None | Some(SwapArg::Default), _) => Ok(None),
        (Some(_), None) => {
            Err("--memory-swap limits memory and swap together: give --memory too".to_owned())
        }
        (Some(SwapArg::Total(total)), Some(memory)) if total < memory => Err(format!(
            "--memory-swap is memory and swap together, and {total} bytes are fewer than the \
             {memory} of --memory"
        )),
        (Some(SwapArg::Total(total)), Some(_)) => Ok(Some(Swap::Total(total))),
        (Some(SwapArg::Unlimited), Some(_)) => Ok(Some(Swap::Unlimited)),
    }
}

/// `cpus` is in thousandths.
fn cpu_of(
    cpus: Option<u64>,
    quota: Option<u64>,
    period: Option<u64>,
) -> Result<Option<CpuQuota>, String> {
    match (cpus, quota, period) {
        (None, None, None) => Ok(None),
        (Some(cpus), None, None) => Ok(Some(CpuQuota {
            quota_micros: cpus * (DEFAULT_PERIOD / 1000),
            period_micros: DEFAULT_PERIOD,
        })),
        (Some(_), ..) => Err("--resource cpus= stands for --cpu-quota and --cpu-period: give it \
                              or these"
            .to_owned()),
        (None, None, Some(_)) => {
            Err("--cpu-period limits nothing alone: give --cpu-quota too".to_owned())
        }
        (None, Some(quota_micros), period) => {
            Ok(Some(CpuQuota { quota_micros, period_micros: period.unwrap_or(DEFAULT_PERIOD) }))
        }
    }
}

/// A size as docker reads it: `512m`, `1.5g`, `100` (bytes).
fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "not a size (such as 64m, 1.5g, or 4096 for bytes)".to_owned())
}

fn memory(text: &str) -> Result<u64, String> {
    match size(text)? {
        few if (1..MIN_MEMORY).contains(&few) => Err("no step runs with less than 6m".to_owned()),
        bytes => Ok(bytes),
    }
}

fn swap(text: &str) -> Result<SwapArg, String> {
    match text {
        "-1" => Ok(SwapArg::Unlimited),
        _ => match size(text).map_err(|e| format!("{e}; -1 is unlimited"))? {
            0 => Ok(SwapArg::Default),
            total => Ok(SwapArg::Total(total)),
        },
    }
}

fn number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| "not a number".to_owned())
}

fn within(text: &str, range: std::ops::RangeInclusive<u64>, unit: &str) -> Result<u64, String> {
    match number(text)? {
        n if n == 0 || range.contains(&n) => Ok(n),
        _ => Err(format!("expected {} to {}{unit}, or 0 for no limit", range.start(), range.end())),
    }
}

fn shares(text: &str) -> Result<u64, String> {
    within(text, SHARES, "")
}

fn period(text: &str) -> Result<u64, String> {
    within(text, PERIODS, " microseconds")
}

/// -1 is no limit, as in docker and the kernel.
fn quota(text: &str) -> Result<u64, String> {
    if text == "-1" {
        return Ok(0);
    }
    // A thousand processors for the longest period.
    within(text, MIN_QUOTA..=PERIODS.end() * MAX_CPUS, " microseconds")
}

fn pids(text: &str) -> Result<u64, String> {
    if text == "-1" { Ok(0) } else { within(text, 1..=MAX_PIDS, "") }
}

/// A number of processors in thousandths: `1.5` is 1500.
fn cpus(text: &str) -> Result<u64, String> {
    let wrong = || "not a number of processors (such as 2 or 1.5)".to_owned();
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    if rest.len() > 3 {
        return Err("more than three digits after the point".to_owned());
    }
    let whole = number(whole).map_err(|_| wrong())?;
    let thousandths = number(&format!("{rest:0<3}")).map_err(|_| wrong())?;
    match whole.saturating_mul(1000).saturating_add(thousandths) {
        n if n == 0 || (10..=MAX_CPUS * 1000).contains(&n) => Ok(n),
        _ => Err(format!("expected 0.01 to {MAX_CPUS} processors, or 0 for no limit")),
    }
}

fn list(text: &str) -> Result<ListArg, String> {
    if text.is_empty() {
        return Ok(ListArg(None));
    }
    text.parse().map(|l| ListArg(Some(l))).map_err(|e: worker::ListError| e.to_string())
}

fn parent(text: &str) -> Result<ParentArg, String> {
    if text.is_empty() {
        return Ok(ParentArg(None));
    }
    Parent::new(text).map(|p| ParentArg(Some(p))).map_err(|e| e.to_string())
}

fn ulimit(text: &str) -> Result<ResourceLimit, String> {
    let (name, values) =
        text.split_once('=').ok_or_else(|| "expected TYPE=SOFT[:HARD]".to_owned())?;
    let resource = rlimit::number(name).ok_or_else(|| {
        let names = rlimit::names();
        let hint = suggest::did_you_mean(name, &names);
        format!("there is no limit {name:?}{hint} (there are {})", names.join(", "))
    })?;
    let value = |text: &str| match text {
        "-1" => Ok(rlimit::UNLIMITED),
        _ => number(text).map_err(|_| format!("{text:?} is not a number (-1 is unlimited)")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    if soft > hard {
        return Err("the soft limit is above the hard one".to_owned());
    }
    Ok(ResourceLimit { resource, soft, hard })
}

fn resource(text: &str) -> Result<Resource, String> {
    let mut all = Resource::default();
    for field in csv::fields(text).map_err(|e| e.to_string())? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("{field:?} is not KEY=VALUE (quote a field with commas)"))?;
        let told = |e: String| format!("{key}={value}: {e}");
        match key {
            "memory" => all.memory = Some(memory(value).map_err(told)?),
            "memory-swap" => all.swap = Some(swap(value).map_err(told)?),
            "cpu-shares" => all.shares = Some(shares(value).map_err(told)?),
            "cpu-quota" => all.quota = Some(quota(value).map_err(told)?),
            "cpu-period" => all.period = Some(period(value).map_err(told)?),
            "cpus" => all.cpus = Some(cpus(value).map_err(told)?),
            "cpuset-cpus" => all.cpuset_cpus = Some(list(value).map_err(told)?),
            "cpuset-mems" => all.cpuset_mems = Some(list(value).map_err(told)?),
            "pids" => all.pids = Some(pids(value).map_err(told)?),
            _ => {
                let hint = suggest::did_you_mean(key, &KEYS);
                return Err(format!("unknown key {key:?}{hint} (there are {})", KEYS.join(", ")));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, parse};

    fn limits(line: &str) -> Result<Limits, String> {
        let line = format!("drydock build {line} .");
        let cli = parse(line.split_whitespace().map(Into::into)).map_err(|e| e.text)?;
        let Command::Build(build) = cli.command else { panic!("{line}") };
        build.limits.resolve()
    }

    #[test]
    fn flags() {
        let got = limits(
            "-m 512m --memory-swap=1g -c 512 --cpu-quota 50000 --cpuset-cpus 0-1 --cpuset-mems 0 \
             --shm-size 2g --ulimit nofile=10:20 --ulimit core=-1 --ulimit nofile=30 \
             --cgroup-parent /ci/../jobs",
        );
        let got = got.unwrap();
        assert_eq!(got.group.memory, Some(512 << 20));
        assert_eq!(got.group.swap, Some(Swap::Total(1 << 30)));
        assert_eq!(got.group.cpu_shares, Some(512));
        let half = CpuQuota { quota_micros: 50_000, period_micros: 100_000 };
        assert_eq!(got.group.cpu, Some(half));
        assert_eq!(got.group.cpus, Some("0,1".parse().unwrap()));
        assert_eq!(got.group.mems, Some("0".parse().unwrap()));
        assert_eq!(got.shm_size, Some(2 << 30));
        let core = ResourceLimit { resource: 4, soft: rlimit::UNLIMITED, hard: rlimit::UNLIMITED };
        assert_eq!(got.rlimits, [core, ResourceLimit { resource: 7, soft: 30, hard: 30 }]);
        assert_eq!(got.group_parent, Some(Parent::new("jobs").unwrap()));
        let unlimited = limits("--memory 6m --memory-swap -1 --memory 7m").unwrap();
        assert_eq!(unlimited.group.swap, Some(Swap::Unlimited));
        assert_eq!(unlimited.group.memory, Some(7 << 20), "the last one counts");
    }

    #[test]
    fn nothing_is_no_limit() {
        assert_eq!(limits("").unwrap(), Limits::default());
        let zero = "-m 0 --memory-swap 0 -c 0 --cpu-quota 0 --cpu-period 0 --shm-size 0 \
                    --resource cpus=0,pids=-1 --cpuset-cpus= --cgroup-parent= --cpu-quota -1";
        assert_eq!(limits(zero).unwrap(), Limits::default());
    }

    #[test]
    fn resources() {
        let got = limits("--resource memory=2g,cpus=1.5,pids=100 --resource pids=7").unwrap();
        assert_eq!((got.group.memory, got.group.pids), (Some(2 << 30), Some(7)));
        assert_eq!(got.group.cpu.unwrap().quota_micros, 150_000);
        let got = limits("--resource \"cpuset-cpus=0,2-3\",memory-swap=-1 -m 1g").unwrap();
        assert_eq!(got.group.cpus.unwrap().to_string(), "0,2-3");
        assert_eq!(
            limits("--resource memory=1g --memory 1024m").unwrap().group.memory,
            Some(1 << 30)
        );
    }

    #[test]
    fn mistakes() {
        for (line, part) in [
            ("--memory=5m", "6m"),
            ("--memory=1x", "such as 64m"),
            ("--memory=-1", "invalid value"),
            ("--memory-swap=1g", "give --memory too"),
            ("-m 2g --memory-swap=1g", "fewer"),
            ("--cpu-shares=1", "2 to 262144"),
            ("--cpu-period=10", "1000 to 1000000"),
            ("--cpu-period=50000", "--cpu-quota"),
            ("--cpu-quota=999", "expected 1000"),
            ("--cpuset-cpus=3-1", "range"),
            ("--shm-size=big", "not a size"),
            ("--ulimit=nofiles=1", "did you mean \"nofile\""),
            ("--ulimit=nofile", "TYPE=SOFT"),
            ("--ulimit=nofile=5:4", "above"),
            ("--ulimit=nofile=-1:4", "above"),
            ("--ulimit=nofile=x", "-1 is unlimited"),
            ("--cgroup-parent=/..", "the top"),
            ("--resource=memroy=1g", "did you mean \"memory\""),
            ("--resource=memory", "not KEY=VALUE"),
            ("--resource=pids=x", "pids=x: not a number"),
            ("--resource=cpus=0.0001", "three digits"),
            ("--resource=cpus=0.009", "0.01"),
            ("--resource=cpus=1 --cpu-quota=5000", "cpus="),
            ("--resource=memory=1g -m 2g", "differ"),
        ] {
            let text = limits(line).expect_err(line);
            assert!(text.contains(part), "{line}: {text}");
        }
    }
}

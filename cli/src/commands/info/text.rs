//! The report for people: names in one column, what there is to say in another.

use cache::ceiling::human;

use super::report::{Ability, Report};
use crate::progress::text;

/// The width of the column of names.
const NAMES: usize = 16;

/// Lines of text.
pub(super) fn render(report: &Report) -> String {
    let mut lines = Lines(String::new());
    lines.line("version", &report.version);
    let kernel = &report.kernel;
    lines.line("kernel", &format!("Linux {} {}", kernel.release, kernel.architecture));
    let yes = |name, there| if there { name } else { "" };
    let features = [
        yes("seccomp", kernel.seccomp),
        yes("user namespaces", kernel.user_namespaces),
        yes("overlayfs", kernel.overlay),
        yes("lowerdir+", kernel.overlay_appends_layers),
    ];
    lines.line("", &list(features.into_iter().filter(|it| !it.is_empty())));
    builds(&mut lines, report);
    let state = &report.state;
    let there = if state.exists { "" } else { " (not there yet)" };
    lines.line("state directory", &format!("{}{there}", state.path));
    let free = state.free_bytes.map(|free| format!("{} free", text::bytes(free)));
    let kind = state.file_system.clone();
    let whiteouts = state.whiteouts.as_ref().map(|it| format!("whiteouts {it}"));
    let owner = state.owner.map(|it| format!("owner {it}"));
    lines.line("", &list([kind, free, whiteouts, owner].into_iter().flatten()));
    lines.reason(state.problem.as_ref());
    cache(&mut lines, report);
    let decided = if report.snapshots.decided { " (decided when it was made)" } else { "" };
    lines.line("snapshots", &format!("{}{decided}", report.snapshots.kind));
    lines.reason(report.snapshots.reason.as_ref());
    let groups = &report.control_groups;
    lines.line("control groups", &groups.version);
    lines.listed("usable", &groups.usable);
    lines.listed("not usable", &groups.unusable);
    lines.abilities("networks", &report.networks);
    lines.abilities("limits", &report.limits);
    let there = report.programs.iter().filter_map(|it| it.path.clone());
    lines.line("programs", &list(there));
    let missing: Vec<_> =
        report.programs.iter().filter(|it| it.path.is_none()).map(|it| it.name.clone()).collect();
    lines.listed("missing", &missing);
    lines.line("ssh agent", report.ssh_agent.as_deref().unwrap_or("none"));
    for hint in &report.hints {
        lines.0.push_str(&format!("hint: {}\n", text::clean(hint, false)));
    }
    lines.0
}

fn cache(lines: &mut Lines, report: &Report) {
    let cache = &report.cache;
    let Some(ceiling) = cache.ceiling else {
        lines.line("ceiling", "none (--max-cache, DRYDOCK_MAX_CACHE, or maxCache in config.json)");
        lines.reason(cache.problem.as_ref());
        return;
    };
    let from = cache.ceiling_from.as_deref().unwrap_or_default();
    lines.line("ceiling", &format!("{} ({from})", human(ceiling)));
    let how = match cache.steps_held_by.as_str() {
        "freezer" => "steps are held by freezing their control groups",
        _ => "steps are held by signals, one process after the other",
    };
    let bound = match cache.exact {
        true => "exact: the file system is not larger",
        false => {
            "exceeded by at most what a step writes between two looks (50 ms) beyond its reservation"
        }
    };
    lines.line("", &format!("{bound}; {how}"));
    if cache.largest_excess > 0 {
        let (bytes, millis) = (human(cache.largest_excess), cache.looked_after);
        let text =
            format!("the largest excess over a reservation so far: {bytes}, after {millis} ms");
        lines.line("", &text);
    }
}

fn builds(lines: &mut Lines, report: &Report) {
    let builds = &report.builds;
    lines.line("builds as", builds.tier.describe());
    lines.reason(builds.tier_reason.as_ref());
    if builds.users > 0 {
        let ids =
            |count: u64, kind| format!("{count} {kind} id{}", if count == 1 { "" } else { "s" });
        let (users, groups) = (ids(builds.users, "user"), ids(builds.groups, "group"));
        lines.line("", &format!("{users}, {groups}"));
    }
    lines.line("RUN", if builds.run { "yes" } else { "no" });
    lines.reason(builds.run_reason.as_ref().filter(|it| builds.tier_reason.as_ref() != Some(it)));
}

fn list<T: AsRef<str>>(parts: impl Iterator<Item = T>) -> String {
    let parts: Vec<String> = parts.map(|it| it.as_ref().to_owned()).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

struct Lines(String);

impl Lines {
    fn line(&mut self, name: &str, value: &str) {
        self.0.push_str(&format!("{name:NAMES$} {}\n", text::clean(value, false)));
    }

    fn reason(&mut self, reason: Option<&String>) {
        if let Some(reason) = reason {
            self.line("", &format!("({reason})"));
        }
    }

    fn listed(&mut self, name: &str, parts: &[String]) {
        if !parts.is_empty() {
            self.line("", &format!("{name}: {}", list(parts.iter())));
        }
    }

    /// Those that are there in one line, each of the others with its reason.
    fn abilities(&mut self, name: &str, all: &[Ability]) {
        let there = all.iter().filter(|it| it.available).map(|it| it.name.as_str());
        self.line(name, &list(there));
        for it in all.iter().filter(|it| !it.available) {
            let reason = it.reason.as_deref().unwrap_or("not here");
            self.line("", &format!("not {}: {reason}", it.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let networks = vec![
            Ability::new("host", None),
            Ability::new("isolated", Some("no \u{1b}[31mpasta".to_owned())),
        ];
        let hints = vec!["do this".to_owned()];
        let report = Report { networks, hints, ..Report::default() };
        let text = render(&report);
        assert!(text.contains("\nnetworks         host\n"), "{text}");
        assert!(text.contains("\n                 not isolated: no pasta\n"), "{text}");
        assert!(text.ends_with("hint: do this\n"), "{text}");
        assert!(text.contains("\nRUN              no\n"), "{text}");
    }
}

//! `drydock du` and `drydock prune`.

use cache::gc::policy::{Rule, Space};
use cache::gc::{Filter, FilterError};
use clap::{Args, ValueEnum};
use frontend::parse_size;

/// Arguments of `drydock du`.
#[derive(Args, Clone, Debug, Default)]
#[command(args_override_self = true)]
pub struct DuArgs {
    /// Tell everything that is known of each record: --format pretty
    #[arg(short, long)]
    pub verbose: bool,
    /// How it is written: table, pretty, or json (a document per record)
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "table",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub format: DuFormat,
    /// --format json
    #[arg(long)]
    pub json: bool,
    /// Only some records, such as type==exec.cachemount or until=24h; several must all hold
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub filter: Vec<String>,
    /// Show what hangs on what, what each branch takes, and which images need it
    #[arg(long)]
    pub tree: bool,
}

/// `--format` of `drydock du`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DuFormat {
    /// A line for each record.
    #[default]
    Table,
    /// A paragraph for each.
    Pretty,
    /// A JSON document for each; scripts for buildx say so by a template.
    #[value(alias = "{{json .}}")]
    Json,
}

impl DuArgs {
    /// How it is to be written.
    pub fn written(&self) -> DuFormat {
        match (self.json, self.verbose, self.format) {
            (true, _, _) => DuFormat::Json,
            (false, true, DuFormat::Table) => DuFormat::Pretty,
            (false, _, format) => format,
        }
    }
}

/// Arguments of `drydock prune`.
#[derive(Args, Clone, Debug, Default)]
#[command(args_override_self = true)]
pub struct PruneArgs {
    /// Remove base images that no tag names, logs, and parts of downloads as well
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only some records, such as type==exec.cachemount or until=24h; several must all hold
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub filter: Vec<String>,
    /// Keep so much in any case [alias: --keep-storage]
    #[arg(long, alias = "keep-storage", value_name = "SIZE", value_parser = space)]
    pub reserved_space: Option<Size>,
    /// Remove until no more than this is used
    #[arg(long, value_name = "SIZE", value_parser = space)]
    pub max_used_space: Option<Size>,
    /// Remove until so much of the file system is free
    #[arg(long, value_name = "SIZE", value_parser = space)]
    pub min_free_space: Option<Size>,
    /// Tell everything that is known of each record
    #[arg(short, long)]
    pub verbose: bool,
}

/// A size, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    /// What it means.
    pub space: Space,
    /// What was written.
    pub text: String,
}

impl PruneArgs {
    /// The limits of size; none where there are none.
    pub fn limits(&self) -> Option<Rule> {
        let space = |size: &Option<Size>| size.as_ref().map(|size| size.space);
        let rule = Rule {
            reserved_space: space(&self.reserved_space),
            max_used_space: space(&self.max_used_space),
            min_free_space: space(&self.min_free_space),
            ..Rule::default()
        };
        let all = [rule.reserved_space, rule.max_used_space, rule.min_free_space];
        all.iter().any(Option::is_some).then_some(rule)
    }

    /// The command line that this is, for people who ask later what became of something.
    pub fn command(&self) -> String {
        let mut line = "drydock prune".to_owned();
        if self.all {
            line.push_str(" --all");
        }
        for filter in &self.filter {
            let plain = |c: char| c.is_ascii_alphanumeric() || "=!~.-_,/:".contains(c);
            let quote = if filter.chars().all(plain) { "" } else { "'" };
            line.push_str(&format!(" --filter {quote}{filter}{quote}"));
        }
        for (name, size) in [
            ("reserved-space", &self.reserved_space),
            ("max-used-space", &self.max_used_space),
            ("min-free-space", &self.min_free_space),
        ] {
            if let Some(size) = size {
                line.push_str(&format!(" --{name} {}", size.text));
            }
        }
        line
    }
}

/// One filter of all that were given.
///
/// # Errors
/// If a key was given twice.
pub fn joined(filters: &[String]) -> Result<Filter, FilterError> {
    Filter::all(filters.iter().map(String::as_str))
}

fn filter(text: &str) -> Result<String, FilterError> {
    Filter::parse(text).map(|_| text.to_owned())
}

fn space(text: &str) -> Result<Size, String> {
    let wrong = || "not a size (such as 500m, 10GB, or 20% of the file system)".to_owned();
    let space = match text.strip_suffix('%') {
        Some(part) => {
            let part: f64 = part.trim().parse().map_err(|_| wrong())?;
            let percent = Some(part).filter(|part| (0.0..=100.0).contains(part));
            Space::Percent(percent.ok_or_else(wrong)?)
        }
        None => Space::Bytes(parse_size(text).ok_or_else(wrong)?),
    };
    Ok(Size { space, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(space("10GB").unwrap().space, Space::Bytes(10 << 30));
        assert_eq!(space("12.5%").unwrap().space, Space::Percent(12.5));
        for bad in ["", "x", "101%", "-1%", "NaN%", "%", "1XB", "-1"] {
            assert!(space(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_is_told_as_it_was() {
        let args = PruneArgs {
            all: true,
            filter: vec!["type==regular".to_owned(), "description~=RUN a|b".to_owned()],
            max_used_space: Some(space("10GB").unwrap()),
            ..PruneArgs::default()
        };
        let line = "drydock prune --all --filter type==regular --filter 'description~=RUN a|b' \
                    --max-used-space 10GB";
        assert_eq!(args.command(), line);
        assert!(args.limits().is_some() && PruneArgs::default().limits().is_none());
        assert_eq!(joined(&args.filter).unwrap().to_string(), "type==regular,description~=RUN a|b");
    }
}

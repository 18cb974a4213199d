//! Reading Dockerfiles of every shape, and lowering them. Both take time linear in the text.

use std::fmt::Write;
use std::time::{Duration, Instant};

use frontend::{ImageRequest, ImageResolver, LowerOptions, Parsed, ResolvedImage, lower, parse};
use oci::{Digest, ImageConfig, Platform};

use crate::cases::{Case, Size};
use crate::part::{Part, grouped};

/// How many variables there are. What a step is run with names all of them, so that more of them
/// make larger results, whatever the time per instruction is.
const NAMES: usize = 32;

/// What most of a Dockerfile is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Many short instructions in one stage.
    Short,
    /// Many stages, each on the one before.
    Stages,
    /// One here-document.
    Heredoc,
    /// One instruction of many lines.
    Continued,
    /// Instructions that are all worth a remark.
    Remarks,
}

impl Shape {
    /// Instruction `n`.
    fn instruction(self, n: usize, out: &mut String) {
        let _ = match (self, n % 5) {
            (Self::Stages, _) if n.is_multiple_of(2) => {
                writeln!(out, "FROM s{} AS s{}", n / 2, n / 2 + 1)
            }
            (Self::Stages, _) => writeln!(out, "RUN make part{n}"),
            (Self::Remarks, 0) => writeln!(out, "ENV K{n} $UNKNOWN{n}"),
            (Self::Remarks, 1) => writeln!(out, "env PASSWORD{n}=x"),
            (Self::Remarks, 2) => writeln!(out, "CMD run $X{n}"),
            (Self::Remarks, 3) => writeln!(out, "EXPOSE {}:80", n % 1000 + 1),
            (Self::Remarks, _) => writeln!(out, "LABEL l{n}=${{NONE{n}}}"),
            (_, 0) => writeln!(out, "RUN echo 'step {n}' && echo \"more $V{}\"", n % NAMES),
            (_, 1) => writeln!(out, "COPY --chown=1:2 src/{n} /dest/{n}"),
            (_, 2) => writeln!(out, "ENV V{}=${{V{}:-{n}}}", n % NAMES, (n + 7) % NAMES),
            (_, 3) => writeln!(out, "ARG A{}=value", n % NAMES),
            (_, _) => writeln!(out, "LABEL l{n}=\"$V{} and more\"", n % NAMES),
        };
    }

    /// A Dockerfile of so many instructions.
    fn of_instructions(self, count: usize) -> String {
        let mut text = self.head();
        (0..count).for_each(|n| self.instruction(n, &mut text));
        text
    }

    /// A Dockerfile of at least so many bytes.
    fn of_bytes(self, bytes: usize) -> String {
        let mut text = self.head();
        let mut n = 0;
        while text.len() < bytes {
            match self {
                Self::Heredoc => text.push_str("\techo \"a line of $THE <<body\"\n"),
                Self::Continued => text.push_str("    word 'in quotes' $V \\\n    # a remark\n"),
                _ => self.instruction(n, &mut text),
            }
            n += 1;
        }
        match self {
            Self::Heredoc => text.push_str("EOF\n"),
            Self::Continued => text.push_str("    end\n"),
            _ => {}
        }
        text
    }

    fn head(self) -> String {
        match self {
            Self::Short | Self::Remarks => "FROM base\n".to_owned(),
            Self::Stages => "FROM base AS s0\n".to_owned(),
            Self::Heredoc => "FROM base\nRUN <<-EOF\n".to_owned(),
            Self::Continued => "FROM base\nRUN true \\\n".to_owned(),
        }
    }
}

/// Every image is one without layers.
struct Images;

impl ImageResolver for Images {
    fn resolve(
        &self,
        request: &ImageRequest,
    ) -> Result<ResolvedImage, Box<dyn std::error::Error + Send + Sync>> {
        let name = request.reference.to_string();
        let config = ImageConfig::scratch(request.platform.clone());
        Ok(ResolvedImage { manifest: Digest::of(name.as_bytes()), name, config })
    }
}

/// Parsing a text.
struct Parse {
    name: String,
    text: String,
}

impl Case for Parse {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn target(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }

    fn run(&mut self) -> Duration {
        let start = Instant::now();
        let parsed = parse("Dockerfile", &self.text);
        let elapsed = start.elapsed();
        assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics.iter().find(|d| d.is_error()));
        elapsed
    }

    fn syncs(&mut self) -> Option<u64> {
        None
    }
}

/// Lowering a tree.
struct Lower {
    name: String,
    parsed: Parsed,
}

impl Case for Lower {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn target(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }

    fn run(&mut self) -> Duration {
        let options = LowerOptions::new(Platform::new("linux", "amd64", None));
        let start = Instant::now();
        let lowered = lower(&self.parsed, &options, &Images);
        let elapsed = start.elapsed();
        assert!(lowered.is_ok(), "{:?}", lowered.err());
        elapsed
    }

    fn syncs(&mut self) -> Option<u64> {
        None
    }
}

/// The cases of one size.
pub fn part(size: Size) -> Part {
    let bytes = size.pick(10_000, 10_000_000);
    let count = size.pick(1_000, 100_000);
    let long = format!("{} kB", grouped(bytes / 1000));
    let parse_case = |name: &str, shape: Shape| -> Box<dyn Case> {
        let name = format!("parse {long}: {name}");
        Box::new(Parse { name, text: shape.of_bytes(bytes) })
    };
    let lower_case = |name: &str, instructions: usize, shape: Shape| -> Box<dyn Case> {
        let name = format!("lower {} {name}", grouped(instructions));
        Box::new(Lower { name, parsed: parse("Dockerfile", &shape.of_instructions(count)) })
    };
    let cases = vec![
        parse_case("short instructions", Shape::Short),
        parse_case("stages", Shape::Stages),
        parse_case("one here-document", Shape::Heredoc),
        parse_case("one instruction", Shape::Continued),
        parse_case("worth many remarks", Shape::Remarks),
        lower_case("short instructions", count, Shape::Short),
        lower_case("stages", count / 2, Shape::Stages),
        lower_case("worth many remarks", count, Shape::Remarks),
    ];
    Part { title: "Dockerfiles", how: "the library alone, in this process", cases }
}

//! Destinations that are opened before the build.

use std::io::{self, BufWriter, Stdout, Write};
use std::path::PathBuf;

use super::destination::{DestinationError, OutputFile, check_directory};
use super::plan::OutputPlan;
use crate::args::{OutputKind, OutputSpec, Stream};
use crate::console::Terminals;

/// Bytes that are gathered before they are written to standard output.
const BUFFER: usize = 256 << 10;

/// An output whose destination is ready.
pub struct OpenOutput {
    /// What was asked for.
    pub spec: OutputSpec,
    /// Where it goes.
    pub target: OpenTarget,
}

/// A destination.
pub enum OpenTarget {
    /// Bytes go there.
    Stream(OutputStream),
    /// Files go into this directory, which may not exist yet.
    Directory(PathBuf),
    /// Neither: a store, a registry, another engine.
    Elsewhere,
}

/// A stream of bytes that is in place when it is finished.
pub enum OutputStream {
    /// Standard output.
    Stdout(BufWriter<Stdout>),
    /// A file.
    File(OutputFile),
}

impl OutputStream {
    /// Writes the rest, and puts a file in place. An unfinished file vanishes when dropped.
    ///
    /// # Errors
    /// If the rest cannot be written.
    pub fn finish(self) -> Result<(), DestinationError> {
        match self {
            Self::File(file) => file.finish(),
            Self::Stdout(mut out) => out.flush().map_err(|source| DestinationError::Io {
                operation: "write",
                path: "standard output".into(),
                source,
            }),
        }
    }
}

impl Write for OutputStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(data),
            Self::File(file) => file.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

/// Opens all destinations of a plan, so that what stands in the way is found before the build.
///
/// # Errors
/// If one cannot be written, or is a terminal.
pub fn open(plan: &OutputPlan, terminals: Terminals) -> Result<Vec<OpenOutput>, DestinationError> {
    let one = |spec: &OutputSpec| {
        let target = match &spec.kind {
            OutputKind::Oci(s) | OutputKind::Docker(s) | OutputKind::Tar(s) => {
                OpenTarget::Stream(stream(s, terminals)?)
            }
            OutputKind::OciLayout(path) | OutputKind::Local(path) => {
                check_directory(path)?;
                OpenTarget::Directory(path.clone())
            }
            OutputKind::Load | OutputKind::Image | OutputKind::CacheOnly => OpenTarget::Elsewhere,
        };
        Ok(OpenOutput { spec: spec.clone(), target })
    };
    plan.exports.iter().map(one).collect()
}

fn stream(stream: &Stream, terminals: Terminals) -> Result<OutputStream, DestinationError> {
    match stream {
        Stream::Stdout if terminals.stdout => Err(DestinationError::Terminal),
        Stream::Stdout => Ok(OutputStream::Stdout(BufWriter::with_capacity(BUFFER, io::stdout()))),
        Stream::File(path) => OutputFile::create(path).map(OutputStream::File),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::output;

    #[test]
    fn before_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        let plan = |text: &str| OutputPlan {
            store: Vec::new(),
            exports: vec![output::parse(text).unwrap()],
        };
        let terminal = Terminals { stdout: true, stderr: true };
        for text in ["-", "type=oci", "type=docker,dest=-"] {
            assert!(
                matches!(open(&plan(text), terminal), Err(DestinationError::Terminal)),
                "{text}"
            );
            assert!(open(&plan(text), Terminals::default()).is_ok());
        }
        let opened = open(&plan(&format!("type=oci,dest={}", path.display())), terminal).unwrap();
        assert!(!path.exists());
        for output in opened {
            let OpenTarget::Stream(mut stream) = output.target else { panic!() };
            stream.write_all(b"a").unwrap();
            stream.finish().unwrap();
        }
        assert!(path.exists());
        assert!(open(&plan(&format!("{}/sub", path.display())), terminal).is_err());
        assert!(matches!(
            open(&plan("type=docker"), terminal).unwrap()[0].target,
            OpenTarget::Elsewhere
        ));
    }
}

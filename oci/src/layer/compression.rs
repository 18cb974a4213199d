//! Compressed layers.

use std::io::{self, Read, Write};

use super::gzip::GzipEncoder;
use super::gzip::{BLOCK_SIZE, DEFAULT_GZIP_LEVEL, LIBDEFLATE_VERSION, MAX_GZIP_LEVEL};

/// The level that zstd is used at if none is asked for.
pub const DEFAULT_ZSTD_LEVEL: i32 = 3;
/// The highest level of zstd.
pub const MAX_ZSTD_LEVEL: i32 = 22;
/// The most memory that decompressing xz may take, in bytes. `xz -9` needs 65 MiB.
pub const MAX_XZ_MEMORY: u64 = 256 << 20;
/// How many bytes [`Compression::detect`] wants to see.
pub const DETECT_BYTES: usize = 6;

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// Read only.
    Bzip2,
    /// Read only.
    Xz,
}

/// Why a layer cannot be compressed as asked.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// Layers of this kind are read, not written.
    #[error("compressing a layer: {0} is not a compression of image layers")]
    NotForLayers(Compression),
    /// The level is out of range.
    #[error("compressing a layer: level {level} of {compression} is not in 0..={max}")]
    Level {
        /// The compression.
        compression: Compression,
        /// What was asked for.
        level: i32,
        /// The highest.
        max: i32,
    },
    /// The encoder could not be made, or not write.
    #[error("compressing a layer: {0}")]
    Io(#[from] io::Error),
}

impl Compression {
    /// What the first bytes of a blob say; fewer than [`DETECT_BYTES`] may be too few.
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // The second is a skippable frame, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }

    /// The level that is used if none is asked for; none where there are no levels.
    pub fn default_level(self) -> Option<i32> {
        match self {
            Self::Gzip => Some(DEFAULT_GZIP_LEVEL),
            Self::Zstd => Some(DEFAULT_ZSTD_LEVEL),
            _ => None,
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        })
    }
}

/// [`Compression::detect`].
pub fn detect(head: &[u8]) -> Compression {
    Compression::detect(head)
}

/// A reader of what `input` decompresses to. Several members, frames or streams one after the
/// other are read as one; an early end is an error.
pub fn decoder<'a>(
    compression: Compression,
    input: Box<dyn Read + Send + 'a>,
) -> Box<dyn Read + Send + 'a> {
    match compression {
        Compression::None => input,
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(input)),
        Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(input)),
        Compression::Zstd => match zstd::stream::read::Decoder::new(input) {
            Ok(decoder) => Box::new(decoder),
            Err(error) => Box::new(Failing(Some(error))),
        },
        Compression::Xz => {
            match liblzma::stream::Stream::new_stream_decoder(
                MAX_XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            ) {
                Ok(stream) => Box::new(liblzma::read::XzDecoder::new_stream(input, stream)),
                Err(error) => Box::new(Failing(Some(error.into()))),
            }
        }
    }
}

/// A decoder that could not be made: the first read says why.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.take().unwrap_or_else(|| io::Error::other("the decoder could not be made")))
    }
}

/// What makes the bytes of a compressed layer besides its content, for the keys under which
/// blobs are kept: library and version, level, block size. `level`: none is the default.
pub fn encoder_version(compression: Compression, level: Option<i32>) -> String {
    let level = level.or(compression.default_level()).unwrap_or(0);
    match compression {
        Compression::Gzip => {
            format!("gzip:libdeflate-{LIBDEFLATE_VERSION}:level={level}:block={BLOCK_SIZE}")
        }
        Compression::Zstd => {
            format!("zstd:{}:level={level}", zstd::zstd_safe::version_string())
        }
        other => other.to_string(),
    }
}

/// A writer that compresses into `W`. [`Self::finish`] must be called: without it the output is
/// not complete.
pub enum Encoder<W: Write> {
    /// As it comes.
    None(W),
    /// Into gzip.
    Gzip(GzipEncoder<W>),
    /// Into zstd.
    Zstd(ZstdEncoder<W>),
}

impl<W: Write> Encoder<W> {
    /// An encoder into `out`. `level`: none is the default, gzip has 0 to 12, zstd 0 to 22,
    /// where 0 is the default level. Without compression the level does not matter.
    ///
    /// # Errors
    /// If the level is out of range or layers are not written with this compression.
    pub fn new(
        compression: Compression,
        level: Option<i32>,
        out: W,
    ) -> Result<Self, CompressionError> {
        let level = level.or(compression.default_level()).unwrap_or(0);
        let check = |max| match level {
            l if (0..=max).contains(&l) => Ok(()),
            level => Err(CompressionError::Level { compression, level, max }),
        };
        match compression {
            Compression::None => Ok(Self::None(out)),
            Compression::Gzip => {
                check(MAX_GZIP_LEVEL)?;
                Ok(Self::Gzip(GzipEncoder::new(out, level)))
            }
            Compression::Zstd => {
                check(MAX_ZSTD_LEVEL)?;
                Ok(Self::Zstd(ZstdEncoder::new(out, level)?))
            }
            Compression::Bzip2 | Compression::Xz => {
                Err(CompressionError::NotForLayers(compression))
            }
        }
    }

    /// Writes what is still held back and returns the output, which is not flushed.
    ///
    /// # Errors
    /// If the output fails.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Flushes the output; what the encoder holds back it keeps, for a flush would be seen in
    /// the compressed bytes.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(out) => out.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// A writer into one zstd frame, compressed on all cores.
pub struct ZstdEncoder<W: Write>(zstd::stream::write::Encoder<'static, W>);

impl<W: Write> ZstdEncoder<W> {
    /// An encoder at `level`, 0 to 22, where 0 is the default level.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(out: W, level: i32) -> io::Result<Self> {
        let level = if level == 0 { DEFAULT_ZSTD_LEVEL } else { level };
        let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
        // One worker gives the same bytes as many, none gives others: so never none.
        let workers = rayon::current_num_threads().max(1);
        encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
        encoder.include_checksum(true)?;
        Ok(Self(encoder))
    }

    /// Writes the rest and returns the output.
    ///
    /// # Errors
    /// If the output fails.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for ZstdEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

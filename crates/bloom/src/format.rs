//! The encoded filter: whole lines, then a footer that says how to read them.
//!
//! ```text
//! offset     size field
//!      0  64 * n  lines    bit b of a line is bit b % 8 of its byte b / 8
//! 64 * n       4  n        u32 LE, number of lines; 0 = the empty set
//!     +4       1  probes   u8, bits per key within its line, 1..=14
//!     +5       1  version  u8, see `VERSION`
//!     +6       2  magic    b"bf"
//! ```
//! Lines come first so that they are aligned whenever the block that holds the filter is. There
//! is no checksum: whoever stores the bytes has one.

use core::fmt;

use crate::plan::LINES_MAX;
use crate::probe::PROBES_MAX;

/// Bytes of one line, the unit that a lookup touches: one cache line.
pub const LINE_LEN: usize = 64;
/// Version of the encoding and of the way probes are derived from a hash.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 2] = *b"bf";
const PROBES_OFFSET: usize = size_of::<u32>();
const VERSION_OFFSET: usize = PROBES_OFFSET + 1;
const MAGIC_OFFSET: usize = VERSION_OFFSET + 1;
/// Bytes after the lines of an encoded filter.
pub const FOOTER_LEN: usize = MAGIC_OFFSET + MAGIC.len();
const _: () = assert!(FOOTER_LEN == 8, "drawing and constants disagree");
const _: () = assert!(LINES_MAX <= u32::MAX as usize, "line count outgrew its field");

/// What the footer says, once checked against the length of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) lines: u32,
    pub(crate) probes: u8,
}

/// Why bytes are not an encoded filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer bytes than a footer.
    TooShort {
        /// Bytes given.
        len: usize,
    },
    /// The last two bytes are not those of a filter.
    BadMagic,
    /// Written by a version that this one cannot read.
    UnknownVersion {
        /// The stored version.
        version: u8,
    },
    /// The number of probes is outside `1..=14`.
    BadProbes {
        /// The stored number.
        probes: u8,
    },
    /// The number of lines does not agree with the number of bytes.
    LengthMismatch {
        /// The stored number of lines.
        lines: u32,
        /// Bytes given.
        len: usize,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::TooShort { len } => write!(f, "filter shorter than its footer len={len}"),
            ParseError::BadMagic => write!(f, "filter without its magic"),
            ParseError::UnknownVersion { version } => {
                write!(f, "unknown filter version version={version}")
            }
            ParseError::BadProbes { probes } => {
                write!(f, "filter probes out of range probes={probes}")
            }
            ParseError::LengthMismatch { lines, len } => {
                write!(f, "filter length disagrees with its lines lines={lines} len={len}")
            }
        }
    }
}

impl core::error::Error for ParseError {}

/// The footer's bytes.
pub(crate) fn encode_footer(shape: Shape) -> [u8; FOOTER_LEN] {
    let mut footer = [0; FOOTER_LEN];
    footer[..PROBES_OFFSET].copy_from_slice(&shape.lines.to_le_bytes());
    footer[PROBES_OFFSET] = shape.probes;
    footer[VERSION_OFFSET] = VERSION;
    footer[MAGIC_OFFSET..].copy_from_slice(&MAGIC);
    footer
}

/// Reads the footer of a whole encoded filter and checks it against the length.
pub(crate) fn decode(bytes: &[u8]) -> Result<Shape, ParseError> {
    let len = bytes.len();
    let Some((body, footer)) = bytes.split_last_chunk::<FOOTER_LEN>() else {
        return Err(ParseError::TooShort { len });
    };
    let [l0, l1, l2, l3, probes, version, m0, m1] = *footer;
    if [m0, m1] != MAGIC {
        return Err(ParseError::BadMagic);
    }
    if version != VERSION {
        return Err(ParseError::UnknownVersion { version });
    }
    if !(1..=PROBES_MAX).contains(&u32::from(probes)) {
        return Err(ParseError::BadProbes { probes });
    }
    let lines = u32::from_le_bytes([l0, l1, l2, l3]);
    if u64::from(lines) * LINE_LEN as u64 != body.len() as u64 || lines as usize > LINES_MAX {
        return Err(ParseError::LengthMismatch { lines, len });
    }
    Ok(Shape { lines, probes })
}

//! Values of secrets, so that nothing that is kept holds one.
//!
//! A secret that a step prints is found as it is, and in base64 and hexadecimal, also where it is
//! broken into lines or comes in several writes. What people see on the screen is the step's
//! affair, as with BuildKit.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What stands for a value.
const MASK: &[u8] = b"***";
/// The shortest value that is looked for, in bytes: shorter ones are parts of ordinary words.
const MIN_VALUE: usize = 4;
/// The shortest line of a value of several lines that is looked for by itself.
const MIN_LINE: usize = 8;
/// Values are looked for in pieces of this many bytes, so that little has to be held back.
const PIECE: usize = 64;
/// The shortest of several pieces, and the shortest that may have line breaks in it.
const MIN_PIECE: usize = 16;
/// The most that is held back, in bytes, where somebody prints nothing but spaces.
const MAX_HELD: usize = 64 << 10;

/// The values that steps were given so far.
#[derive(Default)]
pub struct Masks(Mutex<Values>);

#[derive(Default)]
struct Values {
    pieces: HashSet<Piece>,
    /// Made of the pieces when somebody needs it.
    finder: Option<Arc<Finder>>,
}

/// Something that gives a value away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Piece {
    /// Without spaces and line breaks.
    text: Vec<u8>,
    /// Whether there may be some in it.
    broken: bool,
}

/// Finds pieces.
struct Finder {
    /// By their first bytes, the longest first.
    by_start: HashMap<[u8; MIN_VALUE], Vec<Piece>>,
    /// What is shorter than that and may become the start of one.
    beginnings: HashSet<Vec<u8>>,
}

impl Masks {
    /// A step is given `value`.
    pub fn add(&self, value: &[u8]) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = values.pieces.len();
        values.pieces.extend(pieces(value));
        if values.pieces.len() != known {
            values.finder = None;
        }
    }

    fn finder(&self) -> Option<Arc<Finder>> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Values { pieces, finder } = &mut *values;
        if finder.is_none() && !pieces.is_empty() {
            *finder = Some(Arc::new(Finder::new(pieces)));
        }
        finder.clone()
    }
}

/// Everything that gives `value` away.
fn pieces(value: &[u8]) -> Vec<Piece> {
    let value = value.trim_ascii();
    if value.len() < MIN_VALUE {
        return Vec::new();
    }
    let mut all = cut(value);
    if value.contains(&b'\n') {
        let lines = value.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        all.extend(lines.filter(|line| line.len() >= MIN_LINE).flat_map(cut));
    }
    let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
    all.extend([hex.to_uppercase(), hex].iter().flat_map(|text| cut(text.as_bytes())));
    for offset in 0..3 {
        // As it looks behind `offset` other bytes: what depends on neighbours is left out.
        let shifted: Vec<u8> =
            std::iter::repeat_n(0, offset).chain(value.iter().copied()).collect();
        let whole = &shifted[..shifted.len() / 3 * 3];
        for text in [STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)] {
            let from = if offset == 0 { 0 } else { 4 };
            all.extend(cut(text.as_bytes().get(from..).unwrap_or_default()));
        }
    }
    all
}

/// `text` in pieces, none of them so short that it stands in ordinary text.
fn cut(text: &[u8]) -> Vec<Piece> {
    let solid: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    if solid.len() < MIN_VALUE {
        return Vec::new();
    }
    let mut pieces: Vec<Vec<u8>> = solid.chunks(PIECE).map(<[u8]>::to_vec).collect();
    if pieces.len() > 1 && pieces.last().is_some_and(|last| last.len() < MIN_PIECE) {
        let last = pieces.pop().unwrap_or_default();
        pieces.iter_mut().next_back().into_iter().for_each(|before| before.extend(&last));
    }
    let spaced = solid.len() < text.len();
    let piece = |text: Vec<u8>| Piece { broken: spaced || text.len() >= MIN_PIECE, text };
    pieces.into_iter().map(piece).collect()
}

/// What is found at a place.
enum Found {
    /// Nothing begins there.
    Nothing,
    /// A piece of this length.
    Piece(usize),
    /// There may be one: it depends on what follows.
    Open,
}

impl Finder {
    fn new(pieces: &HashSet<Piece>) -> Self {
        let mut by_start: HashMap<[u8; MIN_VALUE], Vec<Piece>> = HashMap::new();
        let mut beginnings = HashSet::new();
        for piece in pieces {
            let Some(start) = piece.text.first_chunk() else { continue };
            by_start.entry(*start).or_default().push(piece.clone());
            beginnings.extend((1..MIN_VALUE).map(|length| start[..length].to_vec()));
        }
        for pieces in by_start.values_mut() {
            pieces.sort_by_key(|piece| std::cmp::Reverse(piece.text.len()));
        }
        Self { by_start, beginnings }
    }

    /// What begins at `rest`; `places` are where its bytes stand in the stream.
    fn at(&self, rest: &[u8], places: &[usize], ended: bool) -> Found {
        let Some(start) = rest.first_chunk::<MIN_VALUE>() else {
            let open = !ended && self.beginnings.contains(rest);
            return if open { Found::Open } else { Found::Nothing };
        };
        for piece in self.by_start.get(start).into_iter().flatten() {
            let length = piece.text.len();
            let there = length.min(rest.len());
            let solid = places[there - 1] - places[0] == there - 1;
            if rest[..there] != piece.text[..there] || !(solid || piece.broken) {
                continue;
            }
            if there == length {
                return Found::Piece(length);
            }
            if !ended {
                return Found::Open;
            }
        }
        Found::Nothing
    }
}

/// One stream of output, from which values are taken out as it passes.
#[derive(Default)]
pub struct Masked {
    /// What may be the beginning of a value.
    held: Vec<u8>,
}

impl Masked {
    /// Takes more of the stream; what of it may pass by now.
    pub fn pass(&mut self, masks: &Masks, data: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(data);
        match masks.finder() {
            Some(finder) => self.replace(&finder, self.held.len() > MAX_HELD + data.len()),
            None => std::mem::take(&mut self.held),
        }
    }

    /// The stream ended: the rest of it.
    pub fn end(&mut self, masks: &Masks) -> Vec<u8> {
        match masks.finder() {
            Some(finder) => self.replace(&finder, true),
            None => std::mem::take(&mut self.held),
        }
    }

    fn replace(&mut self, finder: &Finder, ended: bool) -> Vec<u8> {
        let bytes = self.held.iter().enumerate();
        let (places, solid): (Vec<usize>, Vec<u8>) =
            bytes.filter(|(_, b)| !b.is_ascii_whitespace()).unzip();
        let mut passed = Vec::with_capacity(self.held.len());
        let (mut at, mut from, mut after_mask) = (0, 0, false);
        let mut until = self.held.len();
        while at < solid.len() {
            match finder.at(&solid[at..], &places[at..], ended) {
                Found::Nothing => (at, after_mask) = (at + 1, false),
                Found::Piece(length) => {
                    // Pieces of one value are one mask.
                    if !after_mask {
                        passed.extend_from_slice(&self.held[from..places[at]]);
                        passed.extend_from_slice(MASK);
                    }
                    (at, after_mask) = (at + length, true);
                    from = places[at - 1] + 1;
                }
                Found::Open => {
                    until = places[at];
                    break;
                }
            }
        }
        passed.extend_from_slice(&self.held[from..until]);
        self.held.drain(..until);
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(values: &[&str], writes: &[&[u8]]) -> String {
        let masks = Masks::default();
        values.iter().for_each(|value| masks.add(value.as_bytes()));
        let mut stream = Masked::default();
        let mut passed: Vec<u8> = writes.iter().flat_map(|w| stream.pass(&masks, w)).collect();
        passed.extend(stream.end(&masks));
        String::from_utf8(passed).unwrap()
    }

    /// With a line break after every `width` characters.
    fn wrapped(text: &str, width: usize) -> String {
        let lines = text.as_bytes().chunks(width);
        lines.map(|line| String::from_utf8_lossy(line).into_owned() + "\n").collect()
    }

    const LONG: &str = "p4ss/w0rd+with?stuff and a tail that makes it longer than any line of base64 \
                        or of a dump, with the end of it being the word the";

    #[test]
    fn values_in_every_form() {
        let value = "p4ss/w0rd+with?stuff";
        for (told, kept) in [
            ("nothing to see", "nothing to see"),
            ("a p4ss/w0rd+with?stuff b", "a *** b"),
            ("70347373 70347373", "70347373 70347373"),
            ("703473732f773072642b776974683f7374756666\n", "***\n"),
            ("703473732F773072642B776974683F7374756666\n", "***\n"),
            ("7034 7373 2f77 3072 642b 7769 7468 3f73 7475 6666\n", "***\n"),
        ] {
            assert_eq!(masked(&[value], &[told.as_bytes()]), kept, "{told}");
        }
    }

    #[test]
    fn however_it_is_broken_into_lines() {
        for before in ["", "u", "us", "use", "user:"] {
            let base64 = STANDARD_NO_PAD.encode(format!("{before}{LONG}"));
            for width in [8, 40, 60, 64, 76, 1000] {
                let kept = masked(&[LONG], &[wrapped(&base64, width).as_bytes()]);
                // At most the characters that the neighbours share in are left.
                assert!(kept.contains("***") && kept.len() <= 24, "{before} {width}: {kept}");
                assert_eq!(masked(&[LONG], &[wrapped(LONG, width).as_bytes()]), "***\n");
            }
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in ["in the dark", "0d 0a the 74 6865", "cGFydA== of it"] {
            assert_eq!(masked(&[LONG, "word1"], &[text.as_bytes()]), text);
        }
        // A short one is looked for as it is, not across words.
        assert_eq!(masked(&["word1"], &[b"wor d1 word1"]), "wor d1 ***");
        assert_eq!(masked(&["my word"], &[b"my word"]), "***");
    }

    #[test]
    fn values_in_pieces() {
        let value: String = (0..40).map(|n| format!("line {n} of a secret\n")).collect();
        for size in [1, 2, 7, 100, 5000] {
            let writes: Vec<&[u8]> = value.as_bytes().chunks(size).collect();
            let kept = masked(&[&value], &writes);
            assert!(kept.bytes().all(|b| b == b'*' || b.is_ascii_whitespace()), "{size}: {kept}");
        }
        assert_eq!(masked(&[&value], &[b"it is line 7 of a secret."]), "it is ***.");
    }

    #[test]
    fn what_is_no_beginning_passes_at_once() {
        let masks = Masks::default();
        masks.add(LONG.as_bytes());
        let mut stream = Masked::default();
        assert_eq!(stream.pass(&masks, b"compiling\n"), b"compiling\n");
        assert_eq!(stream.pass(&masks, b"p4s"), b"");
        assert!(stream.pass(&masks, b"t, not it\n").starts_with(b"p4st, not"));
        // Nobody can make it hold back more than a bound.
        stream.pass(&masks, &LONG.as_bytes()[..20]);
        let spaces = vec![b' '; 1000];
        let passed: usize = (0..200).map(|_| stream.pass(&masks, &spaces).len()).sum();
        assert!(passed > 100_000, "{passed}");
    }

    #[test]
    fn short_values_and_none() {
        assert_eq!(masked(&["", "a", "abc"], &[b"abc a"]), "abc a");
        assert_eq!(masked(&[], &[b"a", b"b"]), "ab");
        assert_eq!(masked(&["abcd"], &[b"abc", b"abcdabcd", b"x"]), "abc***x");
        assert_eq!(masked(&["abcd\n"], &[b"abcd\n"]), "***\n");
    }

    proptest::proptest! {
        #[test]
        fn how_it_is_written_does_not_matter(
            text in "[ab ]{0,200}", value in "[ab]{4,30}", at in 0usize..200, size in 1usize..9
        ) {
            let at = at.min(text.len());
            let text = format!("{}{value}{}", &text[..at], &text[at..]);
            let writes: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let kept = masked(&[&value], &writes);
            proptest::prop_assert!(!kept.contains(&value));
            // Where values follow each other, one mask may stand for several.
            let bare = |text: &str| text.replace(['*', ' '], "");
            let whole = masked(&[&value], &[text.as_bytes()]);
            proptest::prop_assert_eq!(bare(&kept), bare(&whole));
        }
    }
}

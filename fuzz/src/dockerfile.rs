//! Any text as a Dockerfile: parsing, printing and lowering neither panic nor hang, spans are
//! inside the text, and what is printed reads back the same.
#![no_main]

#[path = "../../frontend/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        support::invariants::check(text);
        text.split_whitespace().take(MAX_NAMES).for_each(check_name);
    }
});

/// How many words are tried as names of images.
const MAX_NAMES: usize = 64;

/// The full form of an image's name is a name of the same image.
fn check_name(word: &str) {
    if let Ok(reference) = word.parse::<oci::Reference>() {
        let full = reference.to_string().parse::<oci::Reference>();
        assert_eq!(full.ok(), Some(reference), "{word:?}");
    }
}

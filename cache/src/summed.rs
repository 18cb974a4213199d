//! JSON documents with a checksum as their last field: people can read them, and programs that
//! know nothing of the field can, too.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is between the document and its checksum.
const FIELD: &str = ",\n  \"sum\": \"";

/// What is after it.
const END: &str = "\"\n}";

/// How many hex digits of a BLAKE3 it has.
const SUM: usize = 32;

/// The document `text`, an object with some field, printed in lines, with its checksum.
pub(crate) fn seal(mut text: String) -> String {
    if text.ends_with("\n}") {
        let sum = checksum(&text);
        text.truncate(text.len() - 2);
        text.push_str(FIELD);
        text.push_str(&sum);
        text.push_str(END);
    }
    text
}

/// The value that `bytes` are; none if they are damaged. Earlier versions wrote no checksum: then
/// there may be nothing but the fields that they knew. (The name of the field may be damaged.)
pub(crate) fn open<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Some((body, sum)) = split(text) {
        return (checksum(&body) == sum).then(|| serde_json::from_str(&body).ok()).flatten();
    }
    let value: T = serde_json::from_str(text).ok()?;
    let (found, known): (Value, Value) =
        (serde_json::from_str(text).ok()?, serde_json::to_value(&value).ok()?);
    let known = known.as_object()?;
    found.as_object()?.keys().all(|name| known.contains_key(name)).then_some(value)
}

/// The document as it was before it got its checksum, and that.
fn split(text: &str) -> Option<(String, &str)> {
    let rest = text.strip_suffix(END)?;
    let at = rest.len().checked_sub(SUM)?;
    let (body, sum) = (rest.get(..at)?, rest.get(at..)?);
    Some((format!("{}\n}}", body.strip_suffix(FIELD)?), sum))
}

fn checksum(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..SUM].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        name: Option<String>,
        #[serde(default)]
        source: Option<String>,
        sizes: Vec<u64>,
    }

    fn sample() -> Sample {
        Sample { name: Some("é/1\n".to_owned()), source: None, sizes: vec![1, 20] }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let good = seal(serde_json::to_string_pretty(&sample()).unwrap());
        assert_eq!(open(good.as_bytes()), Some(sample()));
        let again: Sample = serde_json::from_str(&good).unwrap();
        assert_eq!(again, sample(), "for who knows nothing of it");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open::<Sample>(&bad), None, "{}", String::from_utf8_lossy(&bad));
        }
        for length in 0..good.len() {
            assert_eq!(open::<Sample>(&good.as_bytes()[..length]), None, "{length}");
        }
    }

    #[test]
    fn what_earlier_versions_wrote_is_read() {
        let text = serde_json::to_string_pretty(&sample()).unwrap();
        assert_eq!(open(text.as_bytes()), Some(sample()));
        let older = text.replace("  \"source\": null,\n", "");
        assert!(older.len() < text.len());
        assert_eq!(open(older.as_bytes()), Some(sample()));
        assert_eq!(open::<Sample>(older.replace("name", "game").as_bytes()), None);
    }
}

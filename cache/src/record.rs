//! The stored form of a step's record.

use std::time::Duration;

use solver::{ActionKey, ContentId, Record};

use crate::codec::{Decoder, Encoder};

/// Grows when the encoding changes; a record of another version is a miss.
const VERSION: u32 = 1;

/// The bytes of `record`.
pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let mut e = Encoder::default();
    e.u32(VERSION).raw(record.key.as_bytes()).raw(record.content.as_bytes());
    e.bytes(record.payload.as_bytes()).time(record.started).time(record.ended);
    e.u64(record.duration.as_secs()).u32(record.duration.subsec_nanos());
    e.bytes(record.name.as_bytes()).u32(record.inputs.len() as u32);
    for (name, value) in &record.inputs {
        e.bytes(name.as_bytes()).bytes(value.as_bytes());
    }
    e.finish()
}

/// The record that `bytes` are; none if they are damaged or of another version.
pub(crate) fn decode(bytes: &[u8]) -> Option<Record> {
    let mut d = Decoder::new(bytes);
    if d.u32()? != VERSION {
        return None;
    }
    let key = ActionKey::from_bytes(d.array()?);
    let content = ContentId::from_bytes(d.array()?);
    let payload = d.text()?;
    let (started, ended) = (d.time()?, d.time()?);
    let seconds = d.u64()?;
    let duration = Duration::new(seconds, d.u32().filter(|n| *n < 1_000_000_000)?);
    let name = d.text()?;
    let count = d.u32()?;
    let mut inputs = Vec::new();
    for _ in 0..count {
        inputs.push((d.text()?, d.text()?));
    }
    d.is_empty().then_some(Record { key, content, payload, started, ended, duration, name, inputs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Timestamp;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = Timestamp> {
        (any::<i64>(), 0u32..1_000_000_000)
            .prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let ids = (any::<[u8; 32]>(), any::<[u8; 32]>());
        let inputs = proptest::collection::vec((".{0,9}", ".{0,40}"), 0..6);
        (ids, ".{0,20}", time(), time(), any::<u64>(), 0u32..1_000_000_000, ".{0,30}", inputs)
            .prop_map(|(ids, payload, started, ended, secs, nanos, name, inputs)| Record {
                key: ActionKey::from_bytes(ids.0),
                content: ContentId::from_bytes(ids.1),
                payload,
                started,
                ended,
                duration: Duration::new(secs, nanos),
                name,
                inputs,
            })
    }

    proptest! {
        #[test]
        fn round_trip(record in any_record()) {
            prop_assert_eq!(decode(&encode(&record)), Some(record));
        }

        #[test]
        fn a_part_is_no_record(record in any_record(), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&record);
            prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())]), None);
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
            let mut framed = VERSION.to_le_bytes().to_vec();
            framed.extend(bytes);
            let _ = decode(&framed);
        }
    }
}

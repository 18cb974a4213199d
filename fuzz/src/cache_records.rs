//! Any bytes as the records of a cache of another machine: what is read holds together, and is
//! written as it was read.
//!
//! The first byte is the number of layers that come with them.
#![no_main]

use cache::remote::{Document, Made};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((blobs, json)) = data.split_first() else { return };
    let blobs = usize::from(*blobs);
    let Ok(document) = Document::parse(json, blobs) else { return };
    for (at, tree) in document.trees.iter().enumerate() {
        let chain = document.chain(at);
        assert_eq!(chain.last(), Some(&at));
        assert!(chain.is_sorted(), "a tree is above those that it is made on");
        match &tree.made {
            Made::Layer { blob, .. } => assert!(*blob < blobs),
            Made::Linked { layer, .. } => assert!(document.trees[*layer].made.below().is_none()),
            Made::Elsewhere {} | Made::Image { .. } => {}
        }
    }
    for record in &document.records {
        assert_eq!(document.record(&record.key), Some(record));
        assert!(record.tree < document.trees.len());
    }
    for answer in &document.answers {
        assert_eq!(document.answer(&answer.question), Some(answer.digest));
    }
    let again = Document::parse(&document.to_json(), blobs);
    assert_eq!(again.ok(), Some(document));
});

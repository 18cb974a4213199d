//! The document of records, as JSON.

use std::time::Duration;

use oci::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use solver::{ActionKey, ContentId};

use super::{DocumentError, Times};

/// Grows when the meaning of a document changes; one of another version is not read.
pub const VERSION: u64 = 1;

/// The largest document that is read, in bytes: some 100,000 steps.
pub const MAX_DOCUMENT: u64 = 32 << 20;

/// The most layers of one tree. An overlay has at most 500 (Linux, `OVL_MAX_STACK`).
pub const MAX_CHAIN: usize = 1024;

/// What is known of the steps of a build, without anything of the machine it was done on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Always [`VERSION`].
    pub version: u64,
    /// Root file systems. Each points only at earlier ones.
    pub trees: Vec<RemoteTree>,
    /// Steps, in the order of their keys, each once.
    pub records: Vec<RemoteRecord>,
    /// What was asked of trees, in the order of the questions, each once.
    pub answers: Vec<Answer>,
}

/// A root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteTree {
    /// What it is.
    pub content: ContentId,
    /// When its topmost layer was made.
    pub created: Timestamp,
    /// What becomes of the times of that layer.
    pub times: Times,
    /// How it is had.
    pub made: Made,
}

/// How a tree is had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Made {
    /// It is not carried: only what it is is known.
    Elsewhere {},
    /// It is an image, which is had from where images are had.
    Image {
        /// The digests of its layers as plain tars, lowest first.
        layers: Vec<Digest>,
    },
    /// A layer of this cache on another tree.
    Layer {
        /// The tree below; none for an empty one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        below: Option<usize>,
        /// The blob, by its position in the manifest.
        blob: usize,
        /// The digest of the layer as a plain tar.
        diff: Digest,
    },
    /// The layer of a tree that was made on nothing, put onto another one.
    Linked {
        /// The tree below.
        below: usize,
        /// The tree with the layer.
        layer: usize,
    },
}

/// A step that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteRecord {
    /// The key it is found by.
    pub key: ActionKey,
    /// What came out, by its position among the trees.
    pub tree: usize,
    /// When the step started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// What was asked of a tree, and what came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The identity of the question, the tree included.
    pub question: ContentId,
    /// The digest of what is selected.
    pub digest: ContentId,
}

impl RemoteRecord {
    /// Whether the step started late enough (the rule of local records): where freshness is
    /// asked for, one from the future did not.
    pub fn is_fresh(&self, not_before: Timestamp, now: Timestamp) -> bool {
        not_before == Timestamp::EPOCH || (not_before..=now).contains(&self.started)
    }

    /// How long it took.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.micros)
    }
}

impl Document {
    /// A document of what is given, put in order.
    pub fn new(
        trees: Vec<RemoteTree>,
        mut records: Vec<RemoteRecord>,
        mut answers: Vec<Answer>,
    ) -> Self {
        records.sort_by_key(|record| record.key);
        records.dedup_by_key(|record| record.key);
        answers.sort_by_key(|answer| answer.question);
        answers.dedup_by_key(|answer| answer.question);
        Self { version: VERSION, trees, records, answers }
    }

    /// Reads a document that comes with `blobs` layers.
    ///
    /// # Errors
    /// If it is anything but what [`to_json`](Self::to_json) writes.
    pub fn parse(json: &[u8], blobs: usize) -> Result<Self, DocumentError> {
        if json.len() as u64 > MAX_DOCUMENT {
            return Err(DocumentError::TooLarge(json.len() as u64));
        }
        // What a later version looks like is not known: its number is looked at alone.
        #[derive(Deserialize)]
        struct Probe {
            version: u64,
        }
        let probe: Probe = serde_json::from_slice(json)?;
        if probe.version != VERSION {
            return Err(DocumentError::Version(probe.version));
        }
        let document: Self = serde_json::from_slice(json)?;
        document.check(blobs)?;
        Ok(document)
    }

    /// The document as the bytes that its digest is taken over.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document has only string keys and whole numbers")
    }

    /// The record of a key.
    pub fn record(&self, key: &ActionKey) -> Option<&RemoteRecord> {
        let at = self.records.binary_search_by_key(key, |record| record.key).ok()?;
        self.records.get(at)
    }

    /// What was answered to a question.
    pub fn answer(&self, question: &ContentId) -> Option<ContentId> {
        let at = self.answers.binary_search_by_key(question, |answer| answer.question).ok()?;
        self.answers.get(at).map(|answer| answer.digest)
    }

    /// The positions of a tree and of all below it, lowest first.
    pub fn chain(&self, tree: usize) -> Vec<usize> {
        let mut chain = Vec::new();
        let mut next = Some(tree);
        while let Some(at) = next {
            chain.push(at);
            next = self.trees.get(at).and_then(|tree| tree.made.below());
        }
        chain.reverse();
        chain
    }

    fn check(&self, blobs: usize) -> Result<(), DocumentError> {
        let mut lengths = Vec::with_capacity(self.trees.len());
        for (at, tree) in self.trees.iter().enumerate() {
            lengths.push(self.check_tree(at, &tree.made, blobs, &lengths)?);
        }
        for (at, record) in self.records.iter().enumerate() {
            if record.tree >= self.trees.len() {
                let what = "record";
                return Err(DocumentError::Pointer { what, at, target: record.tree });
            }
        }
        if !self.records.is_sorted_by(|a, b| a.key < b.key) {
            return Err(DocumentError::Order("records"));
        }
        if !self.answers.is_sorted_by(|a, b| a.question < b.question) {
            return Err(DocumentError::Order("answers"));
        }
        Ok(())
    }

    /// Checks one tree, whose `lengths` of chains below are known; returns its own.
    fn check_tree(
        &self,
        at: usize,
        made: &Made,
        blobs: usize,
        lengths: &[usize],
    ) -> Result<usize, DocumentError> {
        let pointer = |what, target| DocumentError::Pointer { what, at, target };
        let below = match made {
            Made::Elsewhere {} => 0,
            Made::Image { layers } => layers.len(),
            Made::Layer { below, blob, .. } => {
                if *blob >= blobs {
                    return Err(pointer("the layer of tree", *blob));
                }
                let below = below.map(|to| lengths.get(to).ok_or_else(|| pointer("tree", to)));
                below.transpose()?.map_or(1, |length| length + 1)
            }
            Made::Linked { below, layer } => {
                let alone = lengths.get(*layer).is_some()
                    && matches!(
                        self.trees.get(*layer).map(|tree| &tree.made),
                        Some(Made::Layer { below: None, .. } | Made::Elsewhere {})
                    );
                if !alone {
                    return Err(pointer("tree", *layer));
                }
                lengths.get(*below).ok_or_else(|| pointer("tree", *below))? + 1
            }
        };
        if below > MAX_CHAIN { Err(DocumentError::Chain(at)) } else { Ok(below) }
    }
}

impl Made {
    /// The tree that it is made on.
    pub fn below(&self) -> Option<usize> {
        match self {
            Self::Elsewhere {} | Self::Image { .. } => None,
            Self::Layer { below, .. } => *below,
            Self::Linked { below, .. } => Some(*below),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> ContentId {
        ContentId::from_bytes([n; 32])
    }

    fn key(n: u8) -> ActionKey {
        ActionKey::from_bytes([n; 32])
    }

    fn tree(n: u8, made: Made) -> RemoteTree {
        let created = Timestamp { seconds: i64::from(n), nanos: u32::from(n) };
        RemoteTree { content: id(n), created, times: Times::Clamp, made }
    }

    fn layer(below: Option<usize>, blob: usize) -> Made {
        Made::Layer { below, blob, diff: Digest::of(&[blob as u8]) }
    }

    fn record(n: u8, tree: usize) -> RemoteRecord {
        let started = Timestamp::from_seconds(i64::from(n));
        RemoteRecord { key: key(n), tree, started, ended: started, micros: u64::from(n) }
    }

    fn document() -> Document {
        let trees = vec![
            tree(1, Made::Image { layers: vec![Digest::of(b"base")] }),
            tree(2, layer(Some(0), 0)),
            tree(3, layer(None, 1)),
            tree(4, Made::Linked { below: 1, layer: 2 }),
            tree(5, Made::Elsewhere {}),
        ];
        let answers = vec![
            Answer { question: id(9), digest: id(1) },
            Answer { question: id(8), digest: id(2) },
        ];
        Document::new(trees, vec![record(7, 4), record(3, 3), record(5, 1)], answers)
    }

    #[test]
    fn written_and_read() {
        let document = document();
        assert_eq!(Document::parse(&document.to_json(), 2).unwrap(), document);
        assert_eq!(document.record(&key(3)).unwrap().tree, 3);
        assert_eq!(document.record(&key(4)), None);
        assert_eq!(document.answer(&id(8)), Some(id(2)));
        assert_eq!(document.chain(3), [0, 1, 3]);
        let text = String::from_utf8(document.to_json()).unwrap();
        assert!(text.starts_with(r#"{"version":1,"trees":[{"content":"01"#), "{text}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |change: &dyn Fn(&mut Document)| {
            let mut document = document();
            change(&mut document);
            Document::parse(&document.to_json(), 2).unwrap_err()
        };
        assert!(matches!(refused(&|d| d.version = 2), DocumentError::Version(2)));
        type Change = fn(&mut Document);
        let changes: [(Change, &str); 9] = [
            (|d| d.trees[1].made = layer(Some(1), 0), "itself"),
            (|d| d.trees[1].made = layer(Some(4), 0), "a later one"),
            (|d| d.trees[1].made = layer(Some(0), 2), "no blob"),
            (|d| d.trees[3].made = Made::Linked { below: 1, layer: 1 }, "a layer on another"),
            (|d| d.trees[3].made = Made::Linked { below: 3, layer: 2 }, "itself"),
            (|d| d.records[0].tree = 5, "no tree"),
            (|d| d.records.swap(0, 1), "out of order"),
            (|d| d.records[1].key = d.records[0].key, "twice"),
            (|d| d.answers.swap(0, 1), "out of order"),
        ];
        for (change, what) in changes {
            let error = refused(&change).to_string();
            assert!(error.starts_with("the cache records are damaged"), "{what}: {error}");
        }
        let json = document().to_json();
        assert!(matches!(Document::parse(&json, 1), Err(DocumentError::Pointer { .. })));
        let more = [b"{\"more\":1,", &json[1..]].concat();
        assert!(matches!(Document::parse(&more, 2), Err(DocumentError::Json(_))));
        let mut long = document();
        long.trees.truncate(1);
        long.records.clear();
        for at in 0..MAX_CHAIN + 1 {
            long.trees.push(tree(1, layer(Some(at), 0)));
        }
        assert!(matches!(Document::parse(&long.to_json(), 1), Err(DocumentError::Chain(_))));
    }

    fn any_made(at: usize) -> impl Strategy<Value = Made> {
        let below = 0..at.max(1);
        prop_oneof![
            Just(Made::Elsewhere {}),
            Just(Made::Image { layers: vec![Digest::of(b"x")] }),
            (prop::option::of(below.clone()), 0usize..4)
                .prop_map(move |(below, blob)| layer(below.filter(|_| at > 0), blob)),
            (below.clone(), below).prop_map(|(below, layer)| Made::Linked { below, layer }),
        ]
    }

    fn any_document() -> impl Strategy<Value = Document> {
        let trees: Vec<_> = (0..6).map(any_made).collect();
        let records = prop::collection::vec((any::<u8>(), 0usize..6), 0..6);
        let answers = prop::collection::vec((any::<u8>(), any::<u8>()), 0..6);
        (trees, records, answers).prop_map(|(made, records, answers)| {
            let trees = made.into_iter().zip(0..).map(|(made, n)| tree(n, made)).collect();
            let records = records.into_iter().map(|(n, tree)| record(n, tree)).collect();
            let answer = |(q, d)| Answer { question: id(q), digest: id(d) };
            Document::new(trees, records, answers.into_iter().map(answer).collect())
        })
    }

    proptest! {
        /// Whatever is read comes out the same again, its chains end, and all it names is there.
        #[test]
        fn what_is_read_holds_together(document in any_document(), blobs in 0usize..5) {
            let json = document.to_json();
            let Ok(read) = Document::parse(&json, blobs) else { return Ok(()) };
            prop_assert_eq!(read.to_json(), json);
            for record in &read.records {
                let chain = read.chain(record.tree);
                prop_assert_eq!(chain.last(), Some(&record.tree));
                prop_assert!(chain.is_sorted());
                for at in chain {
                    if let Made::Layer { blob, .. } = read.trees[at].made {
                        prop_assert!(blob < blobs);
                    }
                }
            }
        }

        /// A damaged byte is found, or changes what is read into something that holds together.
        #[test]
        fn damage_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut json = document().to_json();
            let at = at.index(json.len());
            json[at] = byte;
            if let Ok(read) = Document::parse(&json, 2) {
                read.records.iter().for_each(|record| drop(read.chain(record.tree)));
            }
            prop_assert!(Document::parse(&json[..at], 2).is_err());
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Document::parse(&noise, 3);
        }
    }
}

//! From what a build carries to a document of records.

use std::collections::HashMap;

use cache::remote::{Answer, Document, Made, RemoteRecord, RemoteTree};
use oci::{Digest, Timestamp};
use solver::ContentId;

use super::carry::{Carried, NodeKind};

/// A layer that goes with the document: the position of its blob, and its diff id.
pub(super) type Carriage = (usize, Digest);

/// The document of what is carried; `layers` has the layers that go with it, by the position of
/// the tree that they are the topmost one of.
pub(super) fn document(carried: &Carried, layers: &HashMap<usize, Carriage>) -> Document {
    let mut trees = Trees::default();
    let mut places = Vec::with_capacity(carried.nodes.len());
    let mut records = Vec::new();
    for (at, node) in carried.nodes.iter().enumerate() {
        let content = node.tree.content;
        let elsewhere = Made::Elsewhere {};
        let made = match &node.kind {
            NodeKind::Source => elsewhere,
            NodeKind::Image(layers) => Made::Image { layers: layers.clone() },
            NodeKind::Step(below) => match layers.get(&at) {
                Some((blob, diff)) => {
                    let below = below.map(|below: usize| places[below]);
                    Made::Layer { below, blob: *blob, diff: *diff }
                }
                None => elsewhere,
            },
            NodeKind::Linked { below, layer } => {
                let (below, layer): (usize, usize) = (places[*below], places[*layer]);
                match &trees.all[layer].made {
                    // Put onto nothing it is what it was.
                    _ if trees.all[layer].content == content => trees.all[layer].made.clone(),
                    Made::Layer { below: None, .. } => Made::Linked { below, layer },
                    _ => elsewhere,
                }
            }
        };
        // When an image was first used here is nobody's business.
        let image = matches!(node.kind, NodeKind::Image(_));
        let created = if image { Timestamp::EPOCH } else { node.tree.created };
        let times = node.tree.rewrite.into();
        let place = trees.place(RemoteTree { content, created, times, made });
        places.push(place);
        records.extend(node.record.iter().map(|it| RemoteRecord { tree: place, ..it.clone() }));
    }
    let answer = |(question, digest): (&ContentId, &ContentId)| Answer {
        question: *question,
        digest: *digest,
    };
    Document::new(trees.all, records, carried.answers.iter().map(answer).collect())
}

/// Trees, those that are the same once.
#[derive(Default)]
struct Trees {
    all: Vec<RemoteTree>,
    /// The best one of each content: with a layer, if there is one with it.
    best: HashMap<ContentId, usize>,
}

impl Trees {
    fn place(&mut self, tree: RemoteTree) -> usize {
        let known = self.best.get(&tree.content).copied();
        if let Some(at) = known
            && (self.all[at].made != (Made::Elsewhere {}) || tree.made == (Made::Elsewhere {}))
        {
            return at;
        }
        self.best.insert(tree.content, self.all.len());
        self.all.push(tree);
        self.all.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use solver::ActionKey;

    use super::super::carry::Node;
    use super::*;
    use crate::output::{Rewrite, TreeOutput};

    fn node(n: u8, kind: NodeKind) -> Node {
        let time = Timestamp::from_seconds(n.into());
        let tree = TreeOutput {
            snapshot: None,
            content: ContentId::from_bytes([n; 32]),
            created: time,
            rewrite: Rewrite::Clamp,
            lease: None,
            lazy: None,
        };
        let key = ActionKey::from_bytes([100 - n; 32]);
        let record = RemoteRecord { key, tree: 0, started: time, ended: time, micros: 1 };
        Node { tree, kind, record: Some(record) }
    }

    fn carried(nodes: Vec<Node>) -> Carried {
        let result = Some(nodes.len() - 1);
        let (answers, suspects) = Default::default();
        Carried { nodes, result, answers, suspects }
    }

    #[test]
    fn trees_hang_together_and_are_read_again() {
        let base = vec![Digest::of(b"base")];
        let carried = carried(vec![
            node(1, NodeKind::Image(base)),
            node(2, NodeKind::Step(Some(0))),
            node(3, NodeKind::Step(None)),
            node(4, NodeKind::Linked { below: 1, layer: 2 }),
            node(2, NodeKind::Step(Some(0))),
            node(5, NodeKind::Source),
            node(6, NodeKind::Step(Some(3))),
        ]);
        assert_eq!(carried.chain(), [(6, 6), (3, 2), (1, 1)]);
        let diff = |n: u8| Digest::of(&[n]);
        let layers = HashMap::from([(1, (0, diff(0))), (2, (1, diff(1))), (6, (2, diff(2)))]);
        let whole = document(&carried, &layers);
        assert_eq!(Document::parse(&whole.to_json(), 3).unwrap(), whole);
        assert_eq!(whole.trees.len(), 6, "equal ones once");
        assert_eq!(whole.chain(whole.records[0].tree).len(), 4);
        assert!(whole.records.is_sorted_by_key(|record| record.key));
        // Without a layer there is nothing to link to.
        let less = document(&carried, &HashMap::from([(1, (0, diff(0)))]));
        assert_eq!(less.trees[3].made, Made::Elsewhere {});
        assert_eq!(Document::parse(&less.to_json(), 1).unwrap(), less);
    }
}

//! What of a build can go to other machines: its steps, their results, and how they hang together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use cache::remote::RemoteRecord;
use graph::{Op, SourceOp, VertexIndex};
use oci::{Digest, Timestamp};
use solver::{ContentId, RecordStore, StepReport};

use super::RemoteCaches;
use crate::build::BuildWork;
use crate::output::{Output, TreeOutput};

/// Takes what of a build can go to other machines.
#[derive(Default)]
pub struct Carry(Mutex<Option<Carried>>);

/// What of a build can go to other machines.
pub struct Carried {
    /// The results that are root file systems, each after those that it was made of.
    pub(super) nodes: Vec<Node>,
    /// Which of them is the result of the build.
    pub(super) result: Option<usize>,
    /// What was asked of trees, and what came out.
    pub(super) answers: BTreeMap<ContentId, ContentId>,
    /// Layers that a cache was missing or had damaged: who has them should look twice.
    pub(super) suspects: BTreeSet<Digest>,
}

/// A result that is a root file system.
pub(super) struct Node {
    pub(super) tree: TreeOutput,
    pub(super) kind: NodeKind,
    /// Its record, without the place of its tree; none for what has none, or need not.
    pub(super) record: Option<RemoteRecord>,
}

/// How a tree came about. Others are named by their position.
pub(super) enum NodeKind {
    /// Everybody gets it from where it is: a repository, a context.
    Source,
    /// An image, by the diff ids of its layers.
    Image(Vec<Digest>),
    /// A layer on another tree, or on nothing.
    Step(Option<usize>),
    /// The layer of a tree on another one.
    Linked { below: usize, layer: usize },
}

impl Carry {
    /// What was taken.
    pub fn take(&self) -> Option<Carried> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes the results of all vertices of a build that ended well.
    pub(crate) fn collect(
        &self,
        work: &BuildWork<'_>,
        vertices: &[VertexIndex],
        outputs: Vec<Output>,
        steps: &[StepReport],
        answers: BTreeMap<ContentId, ContentId>,
    ) {
        let reports: HashMap<VertexIndex, &StepReport> =
            steps.iter().map(|step| (step.vertex, step)).collect();
        let mut places: HashMap<VertexIndex, usize> = HashMap::new();
        let mut nodes = Vec::new();
        for (vertex, output) in vertices.iter().zip(outputs) {
            let Output::Tree(tree) = output else { continue };
            let tree = tree.at_hand();
            let kind = kind_of(work, *vertex, &places);
            let image = matches!(kind, NodeKind::Image(_));
            let report = reports.get(vertex).filter(|_| !image);
            let record = report.and_then(|report| record_of(work, report, &tree));
            places.insert(*vertex, nodes.len());
            nodes.push(Node { tree, kind, record });
        }
        let result = work.input.targets.first().and_then(|target| places.get(target)).copied();
        let suspects = work.input.remote.map(RemoteCaches::bad_layers).unwrap_or_default();
        let carried = Carried { nodes, result, answers, suspects };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(carried);
    }
}

fn kind_of(
    work: &BuildWork<'_>,
    vertex: VertexIndex,
    places: &HashMap<VertexIndex, usize>,
) -> NodeKind {
    let described = work.input.definition.vertex(vertex);
    let place = |input: usize| places.get(described.inputs.get(input)?).copied();
    let step = |root: Option<usize>| match root {
        None => NodeKind::Step(None),
        // A root that is no tree is none of ours to describe.
        Some(root) => place(root).map_or(NodeKind::Source, |at| NodeKind::Step(Some(at))),
    };
    match &described.op {
        Op::Source(SourceOp::Image(source)) => {
            let image = work.input.images.get(&source.manifest);
            image.map_or(NodeKind::Source, |it| NodeKind::Image(it.config.rootfs.diff_ids.clone()))
        }
        Op::Source(_) => NodeKind::Source,
        Op::Exec(exec) => step(exec.root),
        Op::File(file) => step(file.root),
        Op::Merge(merge) => match (place(merge.base), place(merge.layer)) {
            (Some(below), Some(layer)) => NodeKind::Linked { below, layer },
            _ => NodeKind::Source,
        },
    }
}

/// The record of a step, as this machine or the cache that it came from has it.
fn record_of(work: &BuildWork<'_>, step: &StepReport, tree: &TreeOutput) -> Option<RemoteRecord> {
    let (key, content) = (step.key?, step.content?);
    let own = work.engine.state.get(&key, Timestamp::EPOCH).ok().flatten();
    let own = own.filter(|own| own.content == content).map(|own| RemoteRecord {
        key,
        tree: 0,
        started: own.started,
        ended: own.ended,
        micros: u64::try_from(own.duration.as_micros()).unwrap_or(u64::MAX),
    });
    let theirs = || Some(tree.lazy.as_ref()?.from.as_ref()?.record.clone());
    own.or_else(theirs)
}

impl Carried {
    /// The trees that the result consists of, the highest first: for each its position, and that
    /// of the tree that has its layer.
    pub(super) fn chain(&self) -> Vec<(usize, usize)> {
        let mut chain = Vec::new();
        let mut next = self.result;
        while let Some(at) = next {
            next = match &self.nodes[at].kind {
                NodeKind::Source | NodeKind::Image(_) => None,
                NodeKind::Step(below) => {
                    chain.push((at, at));
                    *below
                }
                NodeKind::Linked { below, layer } => {
                    chain.push((at, *layer));
                    Some(*below)
                }
            };
        }
        chain
    }
}

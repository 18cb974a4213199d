//! The graph itself.

use std::collections::HashMap;
use std::fmt;

use crate::{Freshness, Op, SourceMap, Span};

/// The position of a vertex in its definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexIndex(pub usize);

/// The identity of a vertex inside one build: its op and all that it depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexDigest([u8; 32]);

impl VertexDigest {
    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for VertexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blake3:")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for VertexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A piece of work and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// What is done.
    pub op: Op,
    /// The vertices whose results it works on; the op names them by position here. Always of
    /// smaller index.
    pub inputs: Vec<VertexIndex>,
    /// What people see of it; not part of its identity.
    pub meta: VertexMeta,
}

/// What people see of a vertex, and how this build treats it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VertexMeta {
    /// As progress shows it, such as `[build 2/5] RUN make`.
    pub name: String,
    /// Where it stands in the source, with the file's position in the source map.
    pub span: Option<(usize, Span)>,
    /// Parts of it, expanded, and where they stand in that file: what a failure names can be
    /// marked.
    pub words: Vec<(String, Span)>,
    /// The stage it belongs to: its name, or its number.
    pub stage: String,
    /// How old a result may be that stands in for running it.
    pub freshness: Freshness,
}

/// A whole build as data: vertices in an order where inputs come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    vertices: Vec<Vertex>,
    digests: Vec<VertexDigest>,
    by_digest: HashMap<VertexDigest, VertexIndex>,
    /// The files that spans point into.
    pub source_map: SourceMap,
}

impl Definition {
    /// No vertices.
    pub fn new(source_map: SourceMap) -> Self {
        Self { source_map, ..Self::default() }
    }

    /// Adds a vertex and returns its position; an equal one that is there already is returned
    /// instead (and is as fresh as the stricter of both wants it).
    ///
    /// # Panics
    /// If an input is not in this definition: a bug of the caller, never of a Dockerfile.
    pub fn add(&mut self, vertex: Vertex) -> VertexIndex {
        let digest = self.digest_of(&vertex);
        if let Some(at) = self.by_digest.get(&digest) {
            let meta = &mut self.vertices[at.0].meta;
            meta.freshness = meta.freshness.stricter(vertex.meta.freshness);
            return *at;
        }
        let at = VertexIndex(self.vertices.len());
        self.vertices.push(vertex);
        self.digests.push(digest);
        self.by_digest.insert(digest, at);
        at
    }

    fn digest_of(&self, vertex: &Vertex) -> VertexDigest {
        let op = serde_json::to_vec(&vertex.op).expect("an op has only string keys");
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(op.len() as u64).to_le_bytes()).update(&op);
        for input in &vertex.inputs {
            hasher.update(self.digests[input.0].as_bytes());
        }
        VertexDigest(*hasher.finalize().as_bytes())
    }

    /// The vertices; a vertex's inputs stand before it.
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// One vertex.
    pub fn vertex(&self, index: VertexIndex) -> &Vertex {
        &self.vertices[index.0]
    }

    /// The identity of one vertex.
    pub fn digest(&self, index: VertexIndex) -> VertexDigest {
        self.digests[index.0]
    }

    /// The vertices that `targets` need, themselves included, in order.
    pub fn reachable(&self, targets: &[VertexIndex]) -> Vec<VertexIndex> {
        let mut needed = vec![false; self.vertices.len()];
        for target in targets {
            needed[target.0] = true;
        }
        for at in (0..self.vertices.len()).rev() {
            if needed[at] {
                for input in &self.vertices[at].inputs {
                    needed[input.0] = true;
                }
            }
        }
        (0..needed.len()).filter(|at| needed[*at]).map(VertexIndex).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileAction, FileOp, MkdirAction};

    fn mkdir(path: &str, root: Option<VertexIndex>) -> Vertex {
        let action = MkdirAction { path: path.into(), mode: 0o755, user: String::new() };
        Vertex {
            op: Op::File(FileOp {
                root: root.map(|_| 0),
                actions: vec![FileAction::Mkdir(action)],
            }),
            inputs: root.into_iter().collect(),
            meta: VertexMeta::default(),
        }
    }

    #[test]
    fn equal_vertices_merge() {
        let mut d = Definition::default();
        let a = d.add(mkdir("/a", None));
        let mut again = mkdir("/a", None);
        again.meta.name = "another name".into();
        again.meta.freshness = Freshness::Build;
        assert_eq!(d.add(again), a);
        assert_eq!(d.vertex(a).meta.freshness, Freshness::Build);
        let b = d.add(mkdir("/a", Some(a)));
        assert_ne!(a, b);
        assert_ne!(d.digest(a), d.digest(b));
    }

    #[test]
    fn reachable_leaves_out_the_rest() {
        let mut d = Definition::default();
        let a = d.add(mkdir("/a", None));
        let b = d.add(mkdir("/b", None));
        let c = d.add(mkdir("/c", Some(a)));
        assert_eq!(d.reachable(&[c]), vec![a, c]);
        assert_eq!(d.reachable(&[b]), vec![b]);
        assert_eq!(d.reachable(&[]), vec![]);
    }
}
